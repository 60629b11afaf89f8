"""From checked sentences to the answer a reader is shown, with its outcome.

Pure; must not enter: providers, budgets, HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from compliance_copilot.core.events import Cited, Delta, Tell, nobody
from compliance_copilot.core.vocabulary import (
    Answer,
    Citation,
    DraftSentence,
    Outcome,
    ScoredChunk,
    Unsupported,
)
from compliance_copilot.rag.analysis import detect_language
from compliance_copilot.rag.citations import CheckedQuote, CheckedSentence, check
from compliance_copilot.rag.conflicts import Conflict, Disagreement, conflicts

NEAREST = 3

_WORDING = {
    "en": {
        "none": "The documents hold no evidence that answers this question.",
        "empty": "No documents matched this question.",
        "nearest": "The nearest documents are: {titles}. They were not found to answer it.",
        "mark": "[unsupported]",
        Disagreement.NUMBER: "The sources disagree about a number",
        Disagreement.DATE: "The sources disagree about a date",
        Disagreement.POLARITY: "The sources contradict each other",
        "sides": "{kind}: “{one}” ({one_title}) {one_mark},"
        " but “{other}” ({other_title}) {other_mark}.",
    },
    "de": {
        "none": "Die Dokumente enthalten keinen Beleg, der diese Frage beantwortet.",
        "empty": "Kein Dokument passt zu dieser Frage.",
        "nearest": "Am nächsten kommen: {titles}. Eine Antwort wurde darin nicht gefunden.",
        "mark": "[unbelegt]",
        Disagreement.NUMBER: "Die Quellen nennen verschiedene Zahlen",
        Disagreement.DATE: "Die Quellen nennen verschiedene Daten",
        Disagreement.POLARITY: "Die Quellen widersprechen sich",
        "sides": "{kind}: „{one}“ ({one_title}) {one_mark},"
        " aber „{other}“ ({other_title}) {other_mark}.",
    },
}


@dataclass(slots=True)
class Citations:
    """Numbers quotes in the order in which they appear; the same stretch keeps its number."""

    all: list[Citation] = field(default_factory=list)
    """Every citation so far, in order."""
    _numbers: dict[CheckedQuote, int] = field(default_factory=dict)

    def markers(self, quotes: Sequence[CheckedQuote]) -> str:
        """Return ` [1][2]` for these quotes, numbering those that are new."""
        numbers = {self._number(quote) for quote in quotes}
        return " " + "".join(f"[{number}]" for number in sorted(numbers))

    def _number(self, quote: CheckedQuote) -> int:
        number = self._numbers.get(quote)
        if number is None:
            number = self._numbers[quote] = len(self._numbers) + 1
            cited = Citation(number, quote.source, quote.text, quote.start, quote.end)
            self.all.append(cited)
        return number


def shown(
    sentence: CheckedSentence, citations: Citations, unsupported: Unsupported, language: str
) -> str | None:
    """Return a sentence with its markers as a reader sees it, or None when it is left out.

    A stream shows sentences one by one with the same `citations`, and ends at the same text.
    """
    if sentence.supported:
        return _marked(sentence.text, citations.markers(sentence.quotes))
    if unsupported is Unsupported.MARK and sentence.text:
        return _marked(sentence.text, f" {_WORDING[language]['mark']}")
    return None


class Composition:
    """An answer that grows sentence by sentence; `tell` hears each stretch once it is final.

    Nothing is final before the first supported sentence: an answer without one says so instead.
    """

    def __init__(
        self,
        question: str,
        sources: Sequence[ScoredChunk],
        *,
        unsupported: Unsupported = Unsupported.DROP,
        tell: Tell = nobody,
    ) -> None:
        self.sentences: list[CheckedSentence] = []
        self._question = question
        self._sources = sources
        self._unsupported = unsupported
        self._tell = tell
        self._citations = Citations()
        self._waiting: list[str] = []
        self._told: list[str] = []
        self._cited = 0

    @cached_property
    def _language(self) -> str:
        return reader_language(self._question)

    @property
    def supported(self) -> list[CheckedSentence]:
        """Return the sentences that stand on a checked quote."""
        return [sentence for sentence in self.sentences if sentence.supported]

    def add(self, sentence: CheckedSentence) -> None:
        """Take the next sentence in."""
        self.sentences.append(sentence)
        language = "" if sentence.supported else self._language  # which takes time to tell
        text = shown(sentence, self._citations, self._unsupported, language)
        if text is not None:
            self._waiting.append(text)
        if sentence.supported or self._told:
            self._say()

    def finish(self) -> Answer:
        """Return the whole answer: what was told, then the sides of each conflict."""
        supported = self.supported
        if not supported:
            answer = no_evidence(self._question, self._sources)
            self._tell(Delta(answer.text))
            return answer
        quotes = [quote for sentence in supported for quote in sentence.quotes]
        found = conflicts(quotes, self._sources)
        for conflict in found:
            self._waiting.append(sides(conflict, self._sources, self._citations, self._language))
            self._say()
        outcome = _outcome(found, len(supported) == len(self.sentences))
        return Answer(" ".join(self._told), outcome, self._sources, self._citations.all)

    def _say(self) -> None:
        for text in self._waiting:
            self._tell(Delta(f" {text}" if self._told else text))
            self._told.append(text)
        self._waiting.clear()
        for citation in self._citations.all[self._cited :]:
            self._tell(Cited(citation))
            self._cited += 1


def assembled(
    question: str,
    sentences: Sequence[CheckedSentence],
    sources: Sequence[ScoredChunk],
    *,
    unsupported: Unsupported = Unsupported.DROP,
) -> Answer:
    """Return the answer that these sentences make.

    No supported sentence: `no_evidence`, naming the nearest documents without claiming. Sources
    that disagree: `conflicting_evidence`, both sides quoted after the answer. Something dropped or
    marked: `partial`. Else `answered`.
    """
    composition = Composition(question, sources, unsupported=unsupported)
    for sentence in sentences:
        composition.add(sentence)
    return composition.finish()


@dataclass(frozen=True, slots=True)
class Assembled:
    """An answer, and the sentences behind it as they were checked."""

    answer: Answer
    sentences: Sequence[CheckedSentence]

    @property
    def unsupported(self) -> int:
        """Return how many drafted sentences stand on nothing."""
        return sum(not sentence.supported for sentence in self.sentences)


def assemble(
    sentences: Sequence[DraftSentence],
    sources: Sequence[ScoredChunk],
    unsupported: Unsupported = Unsupported.DROP,
    *,
    question: str = "",
) -> Assembled:
    """Check drafted sentences against the sources and return the answer that they make."""
    checked = [check(sentence, sources) for sentence in sentences]
    return Assembled(assembled(question, checked, sources, unsupported=unsupported), checked)


def no_evidence(question: str, sources: Sequence[ScoredChunk]) -> Answer:
    """Return the answer that there is none, and where one might look. It cites nothing."""
    wording = _WORDING[reader_language(question)]
    titles = list(dict.fromkeys(_title(source) for source in sources))[:NEAREST]
    if not titles:
        return Answer(wording["empty"], Outcome.NO_EVIDENCE, sources, [])
    nearest = wording["nearest"].format(titles="; ".join(titles))
    return Answer(f"{wording['none']} {nearest}", Outcome.NO_EVIDENCE, sources, [])


def sides(
    conflict: Conflict, sources: Sequence[ScoredChunk], citations: Citations, language: str
) -> str:
    """Return one sentence that shows both sides of a conflict, each with its marker."""
    wording = _WORDING[language]
    return wording["sides"].format(
        kind=wording[conflict.kind],
        one=_one_line(conflict.one.text),
        one_title=_title(sources[conflict.one.source]),
        one_mark=citations.markers([conflict.one]).strip(),
        other=_one_line(conflict.other.text),
        other_title=_title(sources[conflict.other.source]),
        other_mark=citations.markers([conflict.other]).strip(),
    )


def reader_language(question: str) -> str:
    """Return the language of our own sentences: the question's where we have words in it."""
    language = detect_language(question)
    return language if language in _WORDING else "en"


def _outcome(found: Sequence[Conflict], whole: bool) -> Outcome:  # noqa: FBT001
    if found:
        return Outcome.CONFLICTING_EVIDENCE
    return Outcome.ANSWERED if whole else Outcome.PARTIAL


def _marked(text: str, marker: str) -> str:
    """Put a marker before the full stop, as in `encrypted with AES-256 [1].`"""
    end = len(text.rstrip(".!?…"))
    return f"{text[:end]}{marker}{text[end:]}"


def _title(source: ScoredChunk) -> str:
    return source.chunk.title or source.chunk.document_id


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
