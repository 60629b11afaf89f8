"""Whether a sentence says no more than its quotes, and where the quotes stand.

A drafted sentence comes out checked: its quotes verbatim with their offsets in the stored version,
and the reasons for which it is unsupported, if any. Pure; must not enter: providers, SQL.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from compliance_copilot.core.vocabulary import Chunk, DraftSentence, Quote, ScoredChunk
from compliance_copilot.rag.analysis import detect_language
from compliance_copilot.rag.claims import Claims, Quantity, claims, negations
from compliance_copilot.rag.hostile import names_address, safe_text
from compliance_copilot.rag.matching import find
from compliance_copilot.rag.reading import reading_of
from compliance_copilot.rag.sentences import Kind
from compliance_copilot.rag.statements import content


class Reason(StrEnum):
    """Why a sentence is unsupported."""

    NO_QUOTE = "no_quote"
    UNKNOWN_SOURCE = "unknown_source"
    QUOTE_NOT_FOUND = "quote_not_found"
    SUBJECT = "subject"
    NUMBER = "number"
    DATE = "date"
    NEGATION = "negation"
    MODAL = "modal"
    SCALE = "scale"
    NAME = "name"
    ADDRESS = "address"
    SUSPICIOUS = "suspicious"


@dataclass(frozen=True, slots=True)
class CheckedQuote:
    """A stretch of a stored version: `version_text[start:end] == text` (code points)."""

    source: int
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CheckedSentence:
    """A sentence without markers, its verbatim quotes, and why it is unsupported (or nothing)."""

    text: str
    quotes: tuple[CheckedQuote, ...]
    reasons: tuple[Reason, ...] = ()

    @property
    def supported(self) -> bool:
        """Tell whether every quote was found and carries what the sentence says."""
        return not self.reasons


MIN_SHARE = 0.5
"""At least half of a sentence's content words stand in its quotes or their headings; the other
half is what a paraphrase changes. What must not change (numbers, negation ...) is looked at by
itself."""

MIN_SPAN_SHARE = 0.6
"""Prose names a source but no words of it: the one or two sentences that stand for it have to show
a little more than a quote does."""

_MARKER = re.compile(r"\s*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_WORD = re.compile(r"\w+")
_MODAL_STEMS = frozenset({"allow", "permit", "requir", "erlaub", "gestat", "zuläss", "erford"})


def check(sentence: DraftSentence, sources: Sequence[ScoredChunk]) -> CheckedSentence:
    """Return the sentence with its verbatim quotes, or with the reasons why it stands on nothing.

    Only `sources` can be cited. A sentence without quotes that names sources in brackets (`[2]`,
    the second) is matched against them.
    """
    text, named = sentence.text, []
    if "[" in text:
        markers = _MARKER.findall(text)
        named = [int(n) - 1 for group in markers for n in re.findall(r"\d+", group)]
        text = _MARKER.sub("", text)
    text = safe_text(" ".join(text.split()), sources)
    if sentence.quotes:
        quotes, reasons = _located(sentence.quotes, sources)
    else:
        quotes, reasons = _matched(text, named, sources)
    if not quotes:
        return CheckedSentence(text, (), tuple(dict.fromkeys(reasons)) or (Reason.NO_QUOTE,))
    reasons += _unsupported(text, quotes, sources)
    return CheckedSentence(text, quotes, tuple(dict.fromkeys(reasons)))


_Found = tuple[tuple[CheckedQuote, ...], list[Reason]]


def _located(quotes: Sequence[Quote], sources: Sequence[ScoredChunk]) -> _Found:
    """Find claimed quotes; one that is not where it is said to be does not count.

    The others may carry the sentence alone: whether they do is looked at afterwards.
    """
    found: list[CheckedQuote] = []
    reasons: list[Reason] = []
    for quote in quotes:
        if not 0 <= quote.source < len(sources):
            reasons.append(Reason.UNKNOWN_SOURCE)
            continue
        stretches = find(sources[quote.source].chunk.text, quote.text)
        if not stretches:
            reasons.append(Reason.QUOTE_NOT_FOUND)
        found += (_quote(quote.source, start, end, sources) for start, end in stretches)
    return tuple(dict.fromkeys(found)), [] if found else reasons


def _matched(text: str, named: Sequence[int], sources: Sequence[ScoredChunk]) -> _Found:
    if not named:
        return (), [Reason.NO_QUOTE]
    known = [n for n in dict.fromkeys(named) if 0 <= n < len(sources)]
    if not known:
        return (), [Reason.UNKNOWN_SOURCE]
    found = tuple(q for n in known if (q := _best_span(text, n, sources)) is not None)
    return found, [] if found else [Reason.QUOTE_NOT_FOUND]


def _best_span(said: str, source: int, sources: Sequence[ScoredChunk]) -> CheckedQuote | None:
    """Return the sentence, or the two neighbouring ones, that carry most of what is said."""
    text = sources[source].chunk.text
    language = detect_language(text)
    wanted = content(said, language)
    parts = reading_of(sources[source].chunk).sentences.parts
    ones = [parts.span(n) for n, kind in enumerate(parts.kinds) if kind != Kind.HEADING]
    twos = [(first[0], second[1]) for first, second in pairwise(ones)]
    best, best_share = None, MIN_SPAN_SHARE
    for start, end in ones + twos:
        share = shared(wanted, content(text[start:end], language))
        if share > best_share or (share == best_share and best is None):
            best, best_share = (start, end), share
    return _quote(source, *best, sources) if best else None


def _quote(source: int, start: int, end: int, sources: Sequence[ScoredChunk]) -> CheckedQuote:
    chunk = sources[source].chunk
    return CheckedQuote(source, chunk.text[start:end], chunk.start + start, chunk.start + end)


def _unsupported(
    text: str, quotes: Sequence[CheckedQuote], sources: Sequence[ScoredChunk]
) -> list[Reason]:
    quoted = "\n".join(quote.text for quote in quotes)
    chunks = [sources[quote.source].chunk for quote in quotes]
    if not all(_trusted(quote, chunk) for quote, chunk in zip(quotes, chunks, strict=True)):
        return [Reason.SUSPICIOUS]
    if text == quoted or _WORD.findall(text) == _WORD.findall(quoted):
        return []
    if names_address(text):  # where a reader is sent to is told in the document's words alone
        return [Reason.ADDRESS]
    around = "\n".join(f"{c.title}\n{c.section or ''}\n{' '.join(c.headings)}" for c in chunks)
    said, carried = claims(text), claims(quoted)
    language = detect_language(f"{quoted}\n{around}")
    wanted = content(text, language)
    looks = (
        (Reason.SUBJECT, shared(wanted, content(f"{quoted}\n{around}", language)) < MIN_SHARE),
        (Reason.NUMBER, not _numbers_carried(said, carried, claims(around))),
        (Reason.DATE, not _dates_carried(said, carried)),
        (Reason.NEGATION, _polarity_differs(text, quoted, language)),
        (Reason.MODAL, not said.modals <= carried.modals),
        (Reason.SCALE, _other_step(said, carried)),
        (Reason.NAME, not _names_carried(said.names, f"{quoted}\n{around}")),
    )
    return [reason for reason, broken in looks if broken]


def _trusted(quote: CheckedQuote, chunk: Chunk) -> bool:
    """Tell whether a quote stands where the document speaks to people, not to a model."""
    return reading_of(chunk).trusted(quote.start - chunk.start, quote.end - chunk.start)


def shared(wanted: frozenset[str], given: frozenset[str]) -> float:
    """Return the share of what is wanted that is given; 1 when nothing is wanted."""
    return len(wanted & given) / len(wanted) if wanted else 1.0


def _numbers_carried(said: Claims, carried: Claims, around: Claims) -> bool:
    """Tell whether each number stands in the quotes with the same unit.

    Headings lend numbers without unit only (`ISO 27001`, `section 4.2`).
    """
    bare = {quantity.value for quantity in around.quantities if quantity.unit is None}
    return all(
        any(_same(quantity, other) for other in carried.quantities)
        or (quantity.unit is None and quantity.value in bare)
        for quantity in said.quantities
    )


def _same(said: Quantity, carried: Quantity) -> bool:
    return (
        said.value == carried.value
        and (said.unit == carried.unit or said.unit is None or carried.unit is None)
        and (said.qualifier == carried.qualifier or said.qualifier is None)
    )


def _dates_carried(said: Claims, carried: Claims) -> bool:
    def carried_by(date: Iterable[int | None]) -> bool:
        return any(
            all(a is None or a == b for a, b in zip(date, other, strict=True))
            for other in carried.dates
        )

    return all(carried_by(date) for date in said.dates)


def _polarity_differs(text: str, quoted: str, language: str) -> bool:
    """Tell whether one denies what the other states.

    Both may deny several things: what counts is whether the same words are denied. A quote may
    deny something that the sentence leaves out ("... and must not contain the user name").
    """
    said, carried = negations(text), negations(quoted)
    forbids = "forbid" in claims(quoted).modals
    if said and not carried:
        return not forbids
    spoken = content(text, language)
    denied = frozenset[str]().union(*(content(" ".join(n), language) for n in carried))
    for before, after in said:
        words = content(after, language) or content(before, language)
        # "Not allowed" is a modal word, looked at as such.
        if words and not words & (denied | _MODAL_STEMS):
            return True
    return not said and any(content(after, language) & spoken for _, after in carried)


def _other_step(said: Claims, carried: Claims) -> bool:
    """Tell whether the sentence stands on a step of a scale where the quotes stand on another."""
    scales = {scale for scale, _ in carried.steps}
    return any(s not in carried.steps and s[0] in scales for s in said.steps)


def _names_carried(names: Iterable[str], text: str) -> bool:
    lower = text.lower()
    return all(name.lower().removesuffix("s") in lower for name in names)
