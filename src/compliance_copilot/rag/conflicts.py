"""Whether two sources disagree about the same subject: in a number, a date or in polarity.

Conservative: a reader who is told of a conflict that is none stops believing in conflicts.
Pure; must not enter: providers, answers' wording.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from compliance_copilot.core.vocabulary import Chunk, ScoredChunk
from compliance_copilot.rag.analysis import detect_language
from compliance_copilot.rag.citations import CheckedQuote, content
from compliance_copilot.rag.claims import Claims, Quantity, claims
from compliance_copilot.rag.sentences import Kind, spans


class Disagreement(StrEnum):
    """What two statements disagree in."""

    NUMBER = "number"
    DATE = "date"
    POLARITY = "polarity"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two verbatim stretches of different documents that cannot both hold."""

    kind: Disagreement
    one: CheckedQuote
    other: CheckedQuote


MIN_SAME = 0.6
"""Share of the words of both statements that they have in common (Jaccard), numbers, units and
modal words left out. Below it, "Backups are kept 30 days" and "Logs are kept 90 days" collide."""

MIN_SAME_POLARITY = 0.7
"""A "not" more often belongs to another case of the same rule: nearly all words must agree."""

MIN_ALIKE = 0.4
"""Share of word beginnings in common below which a stretch is not read at all."""

_MIN_WORDS = 3
_MAX_WORDS = 40
_HOURS = {
    "hour": 1.0,
    "day": 24.0,
    "week": 168.0,
    "month": 720.0,
    "quarter": 2160.0,
    "year": 8760.0,
}
_UNITS = {"minute": "time", "second": "time", **dict.fromkeys(_HOURS, "time")}
_SAYING = frozenset({Kind.PROSE, Kind.ITEM, Kind.ROW})
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_IGNORED = re.compile(
    r"\b(?:\d[\d.,:/-]*|must|shall|may|can|should|not|no|never|cannot|at least|at most|within|up to"
    r"|seconds?|minutes?|hours?|days?|weeks?|months?|quarters?|years?|muss|müssen|darf|dürfen|kann"
    r"|können|soll\w*|nicht|kein\w*|nie|mindestens|höchstens|innerhalb|stunden?|tage?n?|wochen?"
    r"|monate?n?|jahre?n?|is|are|sind|ist|one|two|three|four|five|six|seven|eight|nine|ten|twelve)\b"
)
"""In small letters, for lowered texts."""


@dataclass(frozen=True)
class _Statement:
    quote: CheckedQuote
    document: str
    words: frozenset[str]

    @cached_property
    def says(self) -> Claims:
        """What it commits itself to: the dear part, read when the words are about the same."""
        return claims(self.quote.text)


def conflicts(quotes: Sequence[CheckedQuote], sources: Sequence[ScoredChunk]) -> list[Conflict]:
    """Return where a quote of an answer and another document among the sources disagree.

    At most one conflict for each quote; versions and chunks of one document never count.
    """
    found: list[Conflict] = []
    readings = [_Reading(index, source.chunk) for index, source in enumerate(sources)]
    for quote in quotes:
        one = _statement(quote, sources)
        if one is not None and _says_something(one.says):
            found += _first(one, readings, sources)
    return _without_mirrors(found)


@dataclass(frozen=True)
class _Reading:
    """A source, cut into stretches once for all quotes of an answer, if any needs it."""

    index: int
    chunk: Chunk

    @cached_property
    def beginnings(self) -> frozenset[str]:
        return _beginnings(self.chunk.text)

    @cached_property
    def stretches(self) -> list[tuple[CheckedQuote, frozenset[str]]]:
        """What says something, with the beginnings of its words."""
        text, start = self.chunk.text, self.chunk.start
        said = [span for span in spans(text) if span.kind in _SAYING]
        quotes = [
            CheckedQuote(self.index, text[s.start : s.end], start + s.start, start + s.end)
            for s in said
        ]
        return [(quote, _beginnings(quote.text)) for quote in quotes]


def _first(
    one: _Statement, readings: Sequence[_Reading], sources: Sequence[ScoredChunk]
) -> list[Conflict]:
    for other in _about_the_same(one, readings, sources):
        kind = _disagreement(one, other)
        if kind is not None:
            return [Conflict(kind, one.quote, other.quote)]
    return []


def _about_the_same(
    one: _Statement, readings: Sequence[_Reading], sources: Sequence[ScoredChunk]
) -> Iterator[_Statement]:
    """Yield statements of other documents; those of quite other words are passed over unread."""
    wanted = _beginnings(one.quote.text)
    for reading in readings:
        if reading.chunk.document_id == one.document:
            continue
        if len(wanted & reading.beginnings) < MIN_ALIKE * len(wanted):
            continue
        for quote, given in reading.stretches:
            alike = len(wanted & given) >= MIN_ALIKE * len(wanted | given)
            if alike and (statement := _statement(quote, sources)) is not None:
                yield statement


def _beginnings(text: str) -> frozenset[str]:
    return frozenset(word[:5] for word in _LETTERS.findall(text.lower()))


def _statement(quote: CheckedQuote, sources: Sequence[ScoredChunk]) -> _Statement | None:
    """Return what a stretch says and about what; None for what is too short or too long to tell."""
    words = content(_IGNORED.sub(" ", quote.text.lower()), detect_language(quote.text))
    if not _MIN_WORDS <= len(words) <= _MAX_WORDS:
        return None
    document = sources[quote.source].chunk.document_id
    return _Statement(quote, document, words)


def _says_something(says: Claims) -> bool:
    return bool(says.quantities or says.dates or says.modals or says.negated)


def _disagreement(one: _Statement, other: _Statement) -> Disagreement | None:
    same = len(one.words & other.words) / len(one.words | other.words)
    if same < MIN_SAME:
        return None
    if _quantities_differ(one, other):
        return Disagreement.NUMBER
    if _dates_differ(one.says, other.says):
        return Disagreement.DATE
    if same >= MIN_SAME_POLARITY and _polarity_differs(one.says, other.says):
        return Disagreement.POLARITY
    return None


def _quantities_differ(one: _Statement, other: _Statement) -> bool:
    """Tell whether both name one amount of a kind, and not the same."""
    mine, theirs = _amounts(one), _amounts(other)
    return any(
        len(mine[kind]) == len(theirs[kind]) == 1 and not _equal(mine[kind], theirs[kind])
        for kind in mine.keys() & theirs.keys()
    )


def _amounts(statement: _Statement) -> dict[str, set[float]]:
    amounts: dict[str, set[float]] = {}
    for quantity in statement.says.quantities:
        # A bare number is mostly a reference (section 4, ISO 27001): only `n characters` counts.
        kind = _UNITS.get(quantity.unit or "", quantity.unit) or _counted(statement, quantity)
        number = _number(quantity.value)
        if kind is not None and number is not None:
            scale = _HOURS.get(quantity.unit or "", 1.0) if kind == "time" else 1.0
            amounts.setdefault(kind, set()).add(number * scale)
    return amounts


def _counted(statement: _Statement, quantity: Quantity) -> str | None:
    """Return the plural noun behind a bare number: what is counted."""
    found = re.search(
        rf"\b{re.escape(quantity.value)}\s+([^\W\d_]{{4,}}[sn])\b", statement.quote.text
    )
    return found[1].lower() if found else None


def _number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _equal(mine: set[float], theirs: set[float]) -> bool:
    (a,), (b,) = mine, theirs
    # A year is 365 days or twelve months; nobody quarrels over that.
    return abs(a - b) <= 0.03 * max(a, b)


def _dates_differ(one: Claims, other: Claims) -> bool:
    return len(one.dates) == len(other.dates) == 1 and not one.dates & other.dates


def _polarity_differs(one: Claims, other: Claims) -> bool:
    """Tell whether one forbids what the other allows or demands, or one simply denies the other."""
    if ("forbid" in one.modals) != ("forbid" in other.modals):
        return bool((one.modals | other.modals) - {"forbid"})
    return one.negated != other.negated and not one.modals and not other.modals


def _without_mirrors(found: Sequence[Conflict]) -> list[Conflict]:
    seen: set[frozenset[CheckedQuote]] = set()
    kept: list[Conflict] = []
    for conflict in found:
        pair = frozenset({conflict.one, conflict.other})
        if pair not in seen:
            seen.add(pair)
            kept.append(conflict)
    return kept
