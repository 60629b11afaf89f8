"""What of a source can stand as an answer: a sentence, a list item with its lead-in, a table row.

Pure; must not enter: questions, scores, providers.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from compliance_copilot.rag.sentences import Kind, Span

MAX_ITEMS = 8
MAX_CHARACTERS = 600
_MIN_WORDS = 3

_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_EMPHASIS = re.compile(r"\*{1,3}|(?<![^\W_])_{1,2}(?=\S)|(?<=\S)_{1,2}(?![^\W_])|`+|~~")
_SIGN = re.compile(r"[*_`~]")
_SPACE = re.compile(r"\s+(?:>[ \t>]*)*")
_END = (".", "!", "?", "…", "。")


class Form(StrEnum):
    """How the stretches of a candidate are put together for a reader."""

    PLAIN = "plain"
    LED = "led"
    LIST = "list"
    ROW = "row"


class Candidate(NamedTuple):
    """A possible sentence of an answer: verbatim stretches of one text, by their numbers in it.

    `headings` and `before` are stretches that say what it is about. `cut`: it begins amid a
    sentence; `poor`: a question or a list of codes, which tells little; `shapes`: which answers it
    looks like (`questions.shapes_of`), None when nobody has looked.
    """

    form: Form
    parts: Sequence[int]
    headings: Sequence[int] = ()
    before: Sequence[int] = ()
    cut: bool = False
    poor: bool = False
    shapes: int | None = None

    @property
    def own(self) -> int:
        """Return the part where its own words begin (after a lead-in or a header row)."""
        return self.parts[0 if self.form == Form.LIST else -1]


def candidates(text: str, parts: Sequence[Span]) -> list[Candidate]:
    """Return what can be cited from a text that has these parts, in order."""
    found: list[Candidate] = []
    headings: tuple[int, ...] = ()
    lead: int | None = None
    for n, part in enumerate(parts):
        if part.kind is Kind.HEADING:
            headings = (*headings[-1:], n)
            lead = None
        elif part.kind is Kind.PROSE:
            lead = n if text[part.end - 1] == ":" and _leads(parts, n) else None
        made = _candidate(text, parts, n, lead)
        if made is not None:
            form, drawn = made
            before = _before(parts, n) if form in (Form.PLAIN, Form.LIST) else ()
            found.append(Candidate(form, drawn, headings, before))
    return found


def shown(form: Form, stretches: Sequence[str]) -> str:
    """Return the stretches of a candidate as one sentence for a reader; no word is added.

    A list follows its lead-in, parted by semicolons; a row is told by its header:
    `Record: Invoice; Retention: 10 years.`
    """
    if form == Form.ROW:
        return _ended(_told_row(stretches))
    words = [readable(stretch) for stretch in stretches]
    if form == Form.PLAIN:
        return _ended(words[0])
    return _ended(f"{words[0]} {'; '.join(word.rstrip('.;,') for word in words[1:])}")


_Made = tuple[Form, tuple[int, ...]]


def _candidate(text: str, parts: Sequence[Span], n: int, lead: int | None) -> _Made | None:
    part = parts[n]
    if part.kind in (Kind.HEADING, Kind.CODE):
        return None
    if part.kind is Kind.ROW:
        return _row(text, parts, n)
    if lead == n:
        return _list(parts, n)
    if part.kind is Kind.ITEM and lead is not None and not _whole(text, part):
        return Form.LED, (lead, n)
    words = text[part.start : part.end]
    if words.count(" ") + words.count("\n") < _MIN_WORDS - 1 or words.endswith(":"):
        return None
    return Form.PLAIN, (n,)


def _row(text: str, parts: Sequence[Span], n: int) -> _Made | None:
    first = n
    while first > 0 and parts[first - 1].kind is Kind.ROW:
        first -= 1
    if first == n:
        return None
    row, header = parts[n], parts[first]
    same = len(_cells(text[row.start : row.end])) == len(_cells(text[header.start : header.end]))
    return Form.ROW, ((first, n) if same else (n,))


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
    return Form.LIST, tuple(range(n, n + 1 + len(items)))


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


def _before(parts: Sequence[Span], n: int) -> tuple[int, ...]:
    return (n - 1,) if n > 0 and parts[n - 1].kind in (Kind.PROSE, Kind.ITEM) else ()


def _cells(row: str) -> list[str]:
    split = row.strip().strip("|").split("|") if "|" in row else row.split("\t")
    return [readable(cell) for cell in split]


def readable(text: str) -> str:
    """Return a stretch of Markdown as plain words on one line; nothing is added."""
    text = _LINK.sub(r"\1", text) if "[" in text else text
    text = _EMPHASIS.sub("", text) if _SIGN.search(text) else text
    return (_SPACE.sub(" ", text) if ">" in text else " ".join(text.split())).strip()


def _ended(text: str) -> str:
    return text if text.endswith(_END) else text.rstrip(":;,") + "."
