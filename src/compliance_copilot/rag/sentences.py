"""Where the sentences of a text lie: offsets, never copies, so that a sentence is its own quote.

A text is read line by line into blocks (paragraph, heading, list item, table row, code), and the
paragraphs and items are cut into sentences. Pure; must not enter: scores, sources, answers.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a stretch of text is."""

    PROSE = "prose"
    ITEM = "item"
    HEADING = "heading"
    ROW = "row"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text in code points, without its list marker or heading signs."""

    start: int
    end: int
    kind: Kind


_LINE = re.compile(r"[^\r\n\u2028\u2029]*(?:\r\n|[\r\n\u2028\u2029]|\Z)")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_ATX = re.compile(r"[ \t]{0,3}#{1,6}[ \t]+(?=\S)")
_RULE = re.compile(r"\s*(?:[-*_=][ \t]*){3,}\s*\Z")
_QUOTED = re.compile(r"[ \t]*>[ \t>]*")
_ITEM = re.compile(
    r"[ \t]*(?:[-*+•‣▪–][ \t]+(?:\[[ xX]\][ \t]+)?"
    r"|(?:\(?(?:[a-z]|[ivx]{1,5}|[A-Z]|\d{1,3})\)|\d{1,3}\.)[ \t]+"
    r"|(?:§[ \t]*)?\d{1,3}(?:\.\d{1,3})+\.?[ \t]+(?=[^\W\d_a-z]))"
)
_NUMBERED = re.compile(r"[ \t]*\d{1,3}\.[ \t]")
_SHORT_HEADING = re.compile(r"(?:§?\s*\d[\d.]*\s+)?[^\W\d_a-z][^.!?:;|]*\Z")
_SECTION = re.compile(r"(?:\A|.*\n)[ \t>]*(?:§[ \t]*)?\d{1,3}(?:\.\d{1,3})+\.?[ \t]+\Z", re.S)
_FINISHED = (".", "!", "?", ":", ";", "”", '"')

_STOP = re.compile(r"[.!?…。！？]+[\"'”’»)\]*_]*(?=\s|\Z)|(?<=[。！？])")
_NEXT = re.compile(r"\s+[\"'“‘„«(\[*_]*(\S)")
_ORDINAL_LEAD = re.compile(
    r"(?:am|im|vom|der|die|das|den|dem|des|zum|bis|ab|seit|zur|beim|jede[rsnm]?|und)"
    r"\s+\d{1,2}\Z",
    re.I,
)
_MONTH = re.compile(
    r"\s+(?:Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November"
    r"|Dezember|Quartal|Tag|Monat|Woche|Jahr|Kapitel|Abschnitt)\b"
)
_ABBREVIATED = """
mr mrs ms dr prof st no nos art arts sec sect fig figs vs cf al etc inc ltd co corp dept approx para
paras e.g i.e eg ie ca bzw ggf vgl evtl usw d.h z.b u.a o.g i.d.r gem abs nr str inkl exkl zzgl max
min mind ziff lit aufl hrsg bspw sog ff jan feb mar apr jun jul aug sep sept oct nov dec p pp vol
rev ed est reg regs ch cl bl tel std allg u.s u.k a.m p.m v m w p.ex n.b s z d h
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
# These end a sentence as often as not: what follows decides.
_ENDING = frozenset({"etc", "usw", "inc", "ltd", "co", "corp", "a.m", "p.m"})


def spans(text: str) -> list[Span]:
    """Return the sentences, headings, rows and code blocks of a text in order.

    `text[span.start:span.end]` is the stretch itself, not empty, without space at either end. No
    two overlap. A sentence runs over line ends inside its paragraph or list item.
    """
    found: list[Span] = []
    for kind, start, end in _blocks(text):
        if kind in (Kind.PROSE, Kind.ITEM):
            found.extend(Span(a, b, kind) for a, b in _cut(text, start, end))
        else:
            found.extend(Span(a, b, kind) for a, b in _trimmed(text, start, end))
    return found


@dataclass(slots=True)
class _Open:
    """The paragraph or item that the lines being read belong to."""

    kind: Kind
    start: int
    end: int
    lines: int = 1


class _Reader:
    """Reads lines into blocks; keeps the one block that is still open."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.open: _Open | None = None
        self.code: int | None = None
        self.after_blank = True

    def close(self) -> Iterator[tuple[Kind, int, int]]:
        block, self.open = self.open, None
        if block is not None:
            kind = Kind.HEADING if self._is_heading(block) else block.kind
            yield kind, block.start, block.end

    def _is_heading(self, block: _Open) -> bool:
        """Tell a bare title line (`4.2 Encryption at rest`) from a paragraph of one line."""
        line = self.text[block.start : block.end].strip()
        bold = line.startswith("**") and line.endswith("**") and line.count("**") == 2
        short = len(line) <= 70 and len(line.split()) <= 9
        numbered = bool(_SECTION.match(self.text[max(0, block.start - 12) : block.start]))
        if block.lines > 1 or not short or (block.kind is Kind.ITEM and not numbered):
            return False
        return bold or bool(_SHORT_HEADING.match(line))

    def line(self, start: int, end: int) -> Iterator[tuple[Kind, int, int]]:
        line = self.text[start:end]
        if self.code is not None or _FENCE.match(line):
            yield from self._fenced(line, start, end)
        elif not line.strip():
            yield from self.close()
        elif _RULE.match(line):
            yield from self._rule(line)
        elif match := _ATX.match(line):
            yield from self.close()
            yield Kind.HEADING, start + match.end(), end
        elif line.count("|") >= 2 or line.count("\t") >= 2:
            yield from self.close()
            if line.strip(" |:-\t\r\n"):
                yield Kind.ROW, start, end
        else:
            yield from self._words(line, start, end)
        self.after_blank = not line.strip()

    def _rule(self, line: str) -> Iterator[tuple[Kind, int, int]]:
        """Close the paragraph; the line under a title makes it a heading."""
        block = self.open
        if block and block.kind is Kind.PROSE and block.lines == 1 and line.strip()[0] in "=-":
            self.open = None
            yield Kind.HEADING, block.start, block.end
        yield from self.close()

    def _fenced(self, line: str, start: int, end: int) -> Iterator[tuple[Kind, int, int]]:
        if self.code is None:
            yield from self.close()
            self.code = start
        elif _FENCE.match(line):
            yield Kind.CODE, self.code, end
            self.code = None

    def _words(self, line: str, start: int, end: int) -> Iterator[tuple[Kind, int, int]]:
        if match := _QUOTED.match(line):
            start += match.end()
            line = line[match.end() :]
        item = _ITEM.match(line)
        if item and self._begins_item(line):
            yield from self.close()
            self.open = _Open(Kind.ITEM, start + item.end(), end)
        elif self.open is None:
            self.open = _Open(Kind.PROSE, start, end)
        else:
            self.open.end = end
            self.open.lines += 1
        if line.rstrip("\r\n").endswith("  "):  # Markdown's hard line break
            yield from self.close()

    def _begins_item(self, line: str) -> bool:
        """Tell `2. Keys are rotated` from a wrapped line that happens to begin with `2. `."""
        if self.open is None or not _NUMBERED.match(line):
            return True
        before = self.text[self.open.start : self.open.end].rstrip()
        return self.open.kind is Kind.ITEM or before.endswith(_FINISHED)


def _blocks(text: str) -> Iterator[tuple[Kind, int, int]]:
    reader = _Reader(text)
    end = 0
    for match in _LINE.finditer(text):
        start, end = match.span()
        if start < end:
            yield from reader.line(start, end)
    if reader.code is not None:
        yield Kind.CODE, reader.code, end
    yield from reader.close()


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    stretch = text[start:end]
    left = len(stretch) - len(stretch.lstrip())
    right = len(stretch.rstrip())
    if left < right:
        yield start + left, start + right


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    begin = start
    for match in _STOP.finditer(text, start, end):
        if match.end() > begin and _ends(text, begin, match, end):
            yield from _trimmed(text, begin, match.end())
            begin = match.end()
    yield from _trimmed(text, begin, end)


def _ends(text: str, begin: int, stop: re.Match[str], end: int) -> bool:
    """Tell whether the sentence that began at `begin` is over at this stop."""
    following = _NEXT.match(text, stop.end(), end)
    if following is None or not stop.group().startswith(".") or stop.group().startswith(".."):
        return following is None or not following.group(1).islower()
    if following.group(1).islower():
        return False
    head = text[max(begin, stop.start() - 32) : stop.start()]
    word = head.split()[-1].lstrip("([\"'“„").lower() if head.strip() else ""
    if word.isdigit() and len(word) <= 2:
        return not (_ORDINAL_LEAD.search(head) or _MONTH.match(text, stop.end(), end))
    if len(word) == 1 and word.isalpha():
        return False
    return word not in _ABBREVIATIONS or (word in _ENDING and following.group(1).isupper())
