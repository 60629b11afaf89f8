"""Whether two sources disagree about the same subject: in a number, a date or in polarity.

Conservative: a reader who is told of a conflict that is none stops believing in conflicts.
Pure; must not enter: providers, answers' wording.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from compliance_copilot.core.vocabulary import Chunk, ScoredChunk
from compliance_copilot.rag.citations import CheckedQuote
from compliance_copilot.rag.reading import Statements, reading_of
from compliance_copilot.rag.statements import Sayings, beginnings, sayings, subject


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


@dataclass(frozen=True, slots=True)
class _One:
    """A quote of the answer: how its words begin, what it is about, what it says."""

    quote: CheckedQuote
    begins: frozenset[str]
    about: frozenset[str]
    says: Sayings


def conflicts(quotes: Sequence[CheckedQuote], sources: Sequence[ScoredChunk]) -> list[Conflict]:
    """Return where a quote of an answer and another document among the sources disagree.

    At most one conflict for each quote; versions and chunks of one document never count.
    """
    found: list[Conflict] = []
    for quote in quotes:
        one = _read(quote, sources[quote.source].chunk)
        if one is not None:
            found += _first(one, sources)
    return _without_mirrors(found)


def _read(quote: CheckedQuote, chunk: Chunk) -> _One | None:
    """Return what a quote says and about what.

    None for what commits itself to nothing, or is too short or too long to tell.
    """
    reading, place = reading_of(chunk), (quote.start - chunk.start, quote.end - chunk.start)
    own, parts = reading.statements, reading.sentences.parts
    for number, part in enumerate(own.parts):
        if parts.span(part) == place:
            said = reading.says(number)
            if not said.commits or not own.about[number]:
                return None
            return _One(quote, own.begins[number], frozenset(own.about[number].split()), said)
    said, about = sayings(quote.text), subject(quote.text)
    return _One(quote, beginnings(quote.text), about, said) if said.commits and about else None


def _first(one: _One, sources: Sequence[ScoredChunk]) -> list[Conflict]:
    document = sources[one.quote.source].chunk.document_id
    for index, source in enumerate(sources):
        chunk = source.chunk
        if chunk.document_id == document:
            continue
        reading = reading_of(chunk)
        for number, same in _about_the_same(one, reading.statements):
            kind = _disagreement(one.says, reading.says(number), same)
            if kind is not None:
                return [Conflict(kind, one.quote, _quote(index, chunk, number))]
    return []


def _quote(index: int, chunk: Chunk, number: int) -> CheckedQuote:
    reading = reading_of(chunk)
    start, end = reading.sentences.parts.span(reading.statements.parts[number])
    return CheckedQuote(index, chunk.text[start:end], chunk.start + start, chunk.start + end)


def _about_the_same(one: _One, other: Statements) -> Iterator[tuple[int, float]]:
    """Yield which statements are about the same, and the share of words that is the same."""
    least = MIN_ALIKE * len(one.begins)
    for number, begins in enumerate(other.begins):
        both = len(one.begins & begins)
        if both < least or both < MIN_ALIKE * (len(one.begins) + len(begins) - both):
            continue
        about = other.about[number].split()
        common = len(one.about.intersection(about))
        same = common / (len(one.about) + len(about) - common)
        if about and same >= MIN_SAME:
            yield number, same


def _disagreement(one: Sayings, other: Sayings, same: float) -> Disagreement | None:
    if _quantities_differ(one, other):
        return Disagreement.NUMBER
    if _dates_differ(one, other):
        return Disagreement.DATE
    if same >= MIN_SAME_POLARITY and _polarity_differs(one, other):
        return Disagreement.POLARITY
    return None


def _quantities_differ(one: Sayings, other: Sayings) -> bool:
    """Tell whether both name one amount of a kind, and not the same."""
    mine, theirs = one.amounts, other.amounts
    return any(
        len(mine[kind]) == len(theirs[kind]) == 1 and not _equal(mine[kind][0], theirs[kind][0])
        for kind in mine.keys() & theirs.keys()
    )


def _equal(a: float, b: float) -> bool:
    # A year is 365 days or twelve months; nobody quarrels over that.
    return abs(a - b) <= 0.03 * max(a, b)


def _dates_differ(one: Sayings, other: Sayings) -> bool:
    return len(one.dates) == len(other.dates) == 1 and list(one.dates[0]) != list(other.dates[0])


def _polarity_differs(one: Sayings, other: Sayings) -> bool:
    """Tell whether one forbids what the other allows or demands, or one simply denies the other."""
    if ("forbid" in one.modals) != ("forbid" in other.modals):
        return any(modal != "forbid" for modal in (*one.modals, *other.modals))
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
