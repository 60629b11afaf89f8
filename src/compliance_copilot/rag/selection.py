"""Which verbatim sentences of the sources answer a question, and whether any does.

Scores are computed inside one request, from the sources alone: no corpus statistics enter.
Pure; must not enter: providers, prompts, storage.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import Chunk, DraftSentence, Quote, ScoredChunk
from compliance_copilot.rag import questions
from compliance_copilot.rag.candidates import Candidate, Form, shown
from compliance_copilot.rag.looking_up import COMPOUND, LookUp, Met
from compliance_copilot.rag.questions import Asks, Question
from compliance_copilot.rag.reading import Sentences, reading_of

SentenceScorer = Callable[[str, Sequence[str]], Sequence[float]]
"""Similarity of a question to each sentence, -1..1: the default embedder can lend itself."""

MIN_COVERAGE = 0.55
"""A sentence answers only when it, with its headings, carries more than half of the weight of the
question's content words. Weight is rarity among the sentences at hand, and a word that none of
them has weighs as much as the rarest: an unrelated question shares a common word or two with any
policy ("capital", "cup of coffee") but never the words that make it that question, and stays below
a half; a paraphrase keeps its nouns and stays above."""

MIN_COVERAGE_OF_FEW = 0.7
"""Of two content words one is not enough, however rare ("Must visitors be accompanied?")."""

MIN_COVERAGE_OF_MANY = 0.38
"""A question of ten content words tells a story that no sentence retells; four of them together in
one sentence are no accident. Between few and many the bound falls evenly."""

MIN_COVERAGE_WITHOUT_EVIDENCE = 0.8
"""Asked "how long", a sentence without any period has to be about nearly every word of it."""

UNRELATED_COSINE = 0.23
"""The cosine of the default embedder up to which a source says nothing: 95 % of the best sources
of questions that have nothing to do with the documents lie below it (`benchmarks/answers.py`)."""

STRONG_COSINE = 0.42
"""From here on a source is about the question: no source of a question that only sounds like the
documents reaches it (at most 0.40), most of the right sources lie above."""

MOST_RELIEF = 0.6
"""How much of the coverage a strong source stands in for: retrieval compared the whole section with
the question, so a sentence of it need not repeat as many words. 0.75 answers no more examples."""

DEFAULT_MIN_EVIDENCE = 0.5
"""The tenant's knob at its middle; above, more is asked of a sentence, below, less."""
_RETRIEVED = 0.3
_CONTEXT = 0.8
_TITLE = 0.6
_BEFORE = 0.35
_DENSE_CANDIDATES = 12
_LONG = 420
_WORD = re.compile(r"[^\W_]+")
_HOPELESS = 0.3
_FEW, _SOME, _MANY = 2, 4, 10
_TYPED = frozenset({Asks.DURATION, Asks.QUANTITY})
_Hits = Sequence[tuple[str, float]]
_Credits = dict[str, float]


@dataclass(frozen=True, slots=True)
class _Origin:
    """A source, how much retrieval speaks for it, and what that adds to a sentence's score."""

    number: int
    chunk: Chunk
    read: Sentences
    strength: float
    retrieved: float


@dataclass(slots=True)
class _Scored:
    origin: _Origin
    candidate: Candidate
    start: int
    """Where its own words begin in the text of the source."""
    credits: _Credits
    coverage: float = 0.0
    fits: bool = False
    score: float = 0.0

    @property
    def is_hopeless(self) -> bool:
        return self.coverage < _HOPELESS * (1.0 - self.origin.strength)

    @property
    def stretches(self) -> list[str]:
        """Return its stretches as they stand in the source."""
        text, parts = self.origin.chunk.text, self.origin.read.parts
        return [text[parts.starts[n] : parts.ends[n]] for n in self.candidate.parts]

    @property
    def text(self) -> str:
        """Return its stretches, one to a line."""
        return "\n".join(self.stretches)

    @property
    def length(self) -> int:
        """Return the length of its text."""
        parts, own = self.origin.read.parts, self.candidate.parts
        return sum([parts.ends[n] - parts.starts[n] for n in own]) + len(own) - 1


def select(
    question_text: str,
    sources: Sequence[ScoredChunk],
    *,
    scorer: SentenceScorer | None = None,
    max_sentences: int = 3,
    min_evidence: float = DEFAULT_MIN_EVIDENCE,
) -> list[DraftSentence]:
    """Return one to `max_sentences` sentences that answer, in document order; none when none does.

    Each draft's quotes are verbatim stretches of its source. Lexical overlap weighted by rarity
    (Sparck Jones 1972), the shape of the answer, and optionally the scorer's similarity.
    """
    question = questions.parse(question_text)
    if max(question.weights.values(), default=0.0) < 1.0:
        return []  # "How long?" asks about nothing
    scored = _scored(question, sources)
    _cover(question, scored)
    asked = min_evidence / DEFAULT_MIN_EVIDENCE
    needed = {fits: _needed(question, fits=fits) for fits in (True, False)}
    best = [item for item in scored if _answers(question, item, needed[item.fits], asked)]
    _rank(question, best, scorer)
    chosen = _distinct(sorted(best, key=_order), max_sentences)
    return [_draft(item) for item in _in_document_order(chosen)]


def _scored(question: Question, sources: Sequence[ScoredChunk]) -> list[_Scored]:
    found: list[_Scored] = []
    seen: set[tuple[str, int, int]] = set()
    look_up = LookUp(question)
    for index, source in enumerate(sources):
        chunk, read = source.chunk, reading_of(source.chunk).sentences
        met = look_up.met(read.words)
        if not met:
            continue
        strength = _strength(source)
        origin = _Origin(index, chunk, read, strength, _RETRIEVED * (source.score + strength))
        for candidate, earned in _credited(read, met):
            start = read.parts.starts[candidate.own]
            place = (chunk.document_id, chunk.version, chunk.start + start)
            if place not in seen:
                seen.add(place)
                found.append(_Scored(origin, candidate, start, earned))
    return found


def _credited(read: Sentences, met: Met) -> Iterator[tuple[Candidate, _Credits]]:
    """Credit own words in full, those of headings, title and the sentence before in part."""
    titles = {met[n][0]: met[n][1] * _TITLE for n in read.heads if n in met}
    hits = [[met[n] for n in words if n in met] for words in read.parts.words]
    above, context = None, titles  # most sentences of a source stand under the same headings
    for candidate in read.candidates:
        if candidate.headings != above:
            above, context = candidate.headings, dict(titles)
            _add(context, hits, above, _CONTEXT)
        earned = dict(context)
        _add(earned, hits, candidate.parts, 1.0)
        _add(earned, hits, candidate.before, _BEFORE)
        yield candidate, earned


def _add(earned: _Credits, hits: Sequence[_Hits], parts: Sequence[int], share: float) -> None:
    for part in parts:
        for term, credit in hits[part]:
            if credit * share > earned.get(term, 0.0):
                earned[term] = credit * share


def _cover(question: Question, scored: Sequence[_Scored]) -> None:
    """Note how much of the question each carries, and whether it shows what is asked for."""
    weights = _weights(question, scored)
    whole = sum(weights.values())
    for item in scored:
        item.coverage = sum([weights[t] * c for t, c in item.credits.items()]) / whole
        item.fits = not item.is_hopeless and (not question.shape or _shows(item, question.shape))


def _rank(question: Question, best: list[_Scored], scorer: SentenceScorer | None) -> None:
    for item in best:
        if not item.is_hopeless:
            item.score = item.coverage + item.origin.retrieved + _shape(question, item)
    if scorer is not None:
        _add_similarity(question, best, scorer)


def _shows(item: _Scored, shape: int) -> bool:
    shapes = item.candidate.shapes
    return bool(shape & (questions.shapes_of(item.text, shape) if shapes is None else shapes))


def _weights(question: Question, scored: Sequence[_Scored]) -> Mapping[str, float]:
    """Weigh each content word by its rarity among the sentences; absent counts as rarest."""
    count = max(2, len(scored))
    frequency = dict.fromkeys(question.weights, 0)
    for item in scored:
        for term, credit in item.credits.items():
            if credit >= COMPOUND:
                frequency[term] += 1
    return {
        term: weight * (1.0 + math.log(1.0 + count / max(1, frequency[term])))
        for term, weight in question.weights.items()
    }


def _shape(question: Question, item: _Scored) -> float:
    """Return what the form of a sentence adds or takes: its fit, its length, a cut beginning."""
    shape = 0.25 if item.fits and question.shape else 0.0
    length = item.length
    if length > _LONG:
        shape -= min(0.3, (length - _LONG) / 1500)
    if item.candidate.cut:
        shape -= 0.15
    if item.candidate.poor:
        shape -= 0.3
    return shape


def _add_similarity(question: Question, scored: list[_Scored], scorer: SentenceScorer) -> None:
    # Only what may win is worth an embedding.
    leaders = sorted(scored, key=_order)[:_DENSE_CANDIDATES]
    similar = scorer(question.text, [item.text for item in leaders])
    for item, similarity in zip(leaders, similar, strict=True):
        item.score += 0.4 * max(0.0, similarity)


def _strength(source: ScoredChunk) -> float:
    """Return how much retrieval speaks for a source, 0..1: where its cosine lies between both."""
    above = (source.dense or 0.0) - UNRELATED_COSINE
    return min(max(above / (STRONG_COSINE - UNRELATED_COSINE), 0.0), 1.0)


def _answers(question: Question, item: _Scored, needed: float, asked: float) -> bool:
    if item.coverage < needed * (1.0 - MOST_RELIEF * item.origin.strength) * asked:
        return False
    # Headings alone do not answer: the sentence brings a word of its own, or what was asked for.
    own = max(item.credits.values(), default=0.0) > _CONTEXT
    return own or bool(question.shape and item.fits)


def _needed(question: Question, *, fits: bool) -> float:
    if question.asks in _TYPED and not fits:
        return MIN_COVERAGE_WITHOUT_EVIDENCE
    full = sum(weight >= 1.0 for weight in question.weights.values())
    if full <= _FEW:
        return MIN_COVERAGE_OF_FEW
    beyond = min(max(0, full - _SOME), _MANY - _SOME) / (_MANY - _SOME)
    return MIN_COVERAGE - beyond * (MIN_COVERAGE - MIN_COVERAGE_OF_MANY)


def _order(item: _Scored) -> tuple[float, int, int]:
    return -item.score, item.origin.number, item.start


def _distinct(ranked: Sequence[_Scored], most: int) -> list[_Scored]:
    """Keep the best and what adds to it: close in score, other in words."""
    chosen: list[_Scored] = []
    vocabularies: list[set[str]] = []
    for item in ranked:
        if len(chosen) == most or item.score < 0.8 * ranked[0].score:
            break
        words = set(_WORD.findall(item.text.lower()))
        if all(_overlap(words, other) < 0.6 for other in vocabularies):
            vocabularies.append(words)
            chosen.append(item)
    return chosen


def _overlap(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(1, min(len(a), len(b)))


def _in_document_order(chosen: Sequence[_Scored]) -> list[_Scored]:
    """Order by document (the best first), then by place in it."""
    first: dict[tuple[str, int], int] = {}
    for rank, item in enumerate(chosen):
        chunk = item.origin.chunk
        first.setdefault((chunk.document_id, chunk.version), rank)

    def place(item: _Scored) -> tuple[int, int]:
        chunk = item.origin.chunk
        return first[chunk.document_id, chunk.version], chunk.start + item.start

    return sorted(chosen, key=place)


def _draft(item: _Scored) -> DraftSentence:
    stretches = item.stretches
    quotes = tuple([Quote(item.origin.number, stretch) for stretch in stretches])
    return DraftSentence(shown(Form(item.candidate.form), stretches), quotes)
