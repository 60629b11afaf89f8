"""What of a source can stand as an answer: a sentence, a list item with its lead-in, a table row.

Pure; must not enter: questions, scores, providers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from compliance_copilot.rag.sentences import Kind, Span, spans

MAX_ITEMS = 8
MAX_CHARACTERS = 600
_MIN_WORDS = 3

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_EMPHASIS = re.compile(r"\*{1,3}|(?<![^\W_])_{1,2}(?=\S)|(?<=\S)_{1,2}(?![^\W_])|`+|~~")
_SPACE = re.compile(r"\s+(?:>[ \t>]*)*")
_END = (".", "!", "?", "…", "。")


class Form(StrEnum):
    """How the stretches of a candidate are put together for a reader."""

    PLAIN = "plain"
    LED = "led"
    LIST = "list"
    ROW = "row"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible sentence of an answer: verbatim stretches of one source.

    `headings` and `before` are stretches that say what it is about.
    """

    source: int
    form: Form
    spans: tuple[tuple[int, int], ...]
    headings: tuple[tuple[int, int], ...] = ()
    before: tuple[tuple[int, int], ...] = ()

    @property
    def start(self) -> int:
        """Return where its own part begins (after a lead-in or a header row)."""
        return self.spans[0 if self.form is Form.LIST else -1][0]

    def raw(self, text: str) -> str:
        """Return its stretches as they stand in the source, one to a line."""
        return "\n".join(text[start:end] for start, end in self.spans)


def candidates(text: str, source: int) -> list[Candidate]:
    """Return what can be cited from the text of a source, in order."""
    parts = spans(text)
    found: list[Candidate] = []
    headings: tuple[tuple[int, int], ...] = ()
    lead: int | None = None
    for n, part in enumerate(parts):
        if part.kind is Kind.HEADING:
            headings = (*headings[-1:], (part.start, part.end))
            lead = None
        elif part.kind is Kind.PROSE:
            lead = n if text[part.end - 1] == ":" and _leads(parts, n) else None
        made = _candidate(text, parts, n, lead)
        if made is not None:
            form, drawn = made
            before = _before(parts, n) if form in (Form.PLAIN, Form.LIST) else ()
            found.append(Candidate(source, form, drawn, headings, before))
    return found


def shown(candidate: Candidate, text: str) -> str:
    """Return a candidate of this text as one sentence for a reader; no word is added.

    A list follows its lead-in, parted by semicolons; a row is told by its header:
    `Record: Invoice; Retention: 10 years.`
    """
    stretches = [text[start:end] for start, end in candidate.spans]
    if candidate.form is Form.ROW:
        return _ended(_told_row(stretches))
    words = [readable(stretch) for stretch in stretches]
    if candidate.form is Form.PLAIN:
        return _ended(words[0])
    return _ended(f"{words[0]} {'; '.join(word.rstrip('.;,') for word in words[1:])}")


_Made = tuple[Form, tuple[tuple[int, int], ...]]


def _candidate(text: str, parts: Sequence[Span], n: int, lead: int | None) -> _Made | None:
    part = parts[n]
    own = (part.start, part.end)
    if part.kind in (Kind.HEADING, Kind.CODE):
        return None
    if part.kind is Kind.ROW:
        return _row(text, parts, n)
    if lead == n:
        return _list(parts, n)
    if part.kind is Kind.ITEM and lead is not None and not _whole(text, part):
        return Form.LED, ((parts[lead].start, parts[lead].end), own)
    words = text[part.start : part.end]
    if words.count(" ") + words.count("\n") < _MIN_WORDS - 1 or words.endswith(":"):
        return None
    return Form.PLAIN, (own,)


def _row(text: str, parts: Sequence[Span], n: int) -> _Made | None:
    first = n
    while first > 0 and parts[first - 1].kind is Kind.ROW:
        first -= 1
    if first == n:
        return None
    row = (parts[n].start, parts[n].end)
    header = (parts[first].start, parts[first].end)
    same = len(_cells(text[slice(*row)])) == len(_cells(text[slice(*header)]))
    return Form.ROW, ((header, row) if same else (row,))


def _told_row(rows: Sequence[str]) -> str:
    values = _cells(rows[-1])
    names = _cells(rows[0]) if len(rows) > 1 else [""] * len(values)
    pairs = zip(names, values, strict=True)
    return "; ".join(f"{name}: {value}" if name else value for name, value in pairs if value)


def _list(parts: Sequence[Span], n: int) -> _Made | None:
    """Return a lead-in with its items when they are few and short; else the items stand alone."""
    items = _items(parts, n)
    if len(items) > MAX_ITEMS or sum(part.end - part.start for part in items) > MAX_CHARACTERS:
        return None
    return Form.LIST, tuple((part.start, part.end) for part in (parts[n], *items))


def _items(parts: Sequence[Span], n: int) -> list[Span]:
    items: list[Span] = []
    for part in parts[n + 1 :]:
        if part.kind is not Kind.ITEM:
            break
        items.append(part)
    return items


def _leads(parts: Sequence[Span], n: int) -> bool:
    return n + 1 < len(parts) and parts[n + 1].kind is Kind.ITEM


def _whole(text: str, part: Span) -> bool:
    """Tell an item that is a sentence of its own from one that only ends its lead-in."""
    words = text[part.start : part.end]
    return words.endswith(".") and not words[0].islower() and words.count(" ") >= _MIN_WORDS


def _before(parts: Sequence[Span], n: int) -> tuple[tuple[int, int], ...]:
    if n == 0 or parts[n - 1].kind not in (Kind.PROSE, Kind.ITEM):
        return ()
    return ((parts[n - 1].start, parts[n - 1].end),)


def _cells(row: str) -> list[str]:
    split = row.strip().strip("|").split("|") if "|" in row else row.split("\t")
    return [readable(cell) for cell in split]


def readable(text: str) -> str:
    """Return a stretch of Markdown as plain words on one line; nothing is added."""
    return _SPACE.sub(" ", _EMPHASIS.sub("", _LINK.sub(r"\1", text))).strip()


def _ended(text: str) -> str:
    return text if text.endswith(_END) else text.rstrip(":;,") + "."
