"""The local twin of a hosted model: an answer of verbatim sentences, without key or network."""

from collections.abc import AsyncIterator

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd, Usage
from compliance_copilot.rag.ports import GenerationRequest
from compliance_copilot.rag.selection import SentenceScorer, select

MODEL = "extractive-1"


class ExtractiveGenerator:
    """Picks the sentences of the sources that answer; says nothing when none does.

    `scorer` may lend a dense similarity; without it the choice is lexical.
    """

    def __init__(self, *, scorer: SentenceScorer | None = None, max_sentences: int = 3) -> None:
        self._scorer = scorer
        self._max_sentences = max_sentences

    @property
    def provider(self) -> str:
        """Return the ledger's word."""
        return "local"

    async def generate(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[DraftSentence | GenerationEnd]:
        """Yield the chosen sentences, each with itself as its quote, then the end (no tokens)."""
        if deadline.passed:
            raise DeadlineExceeded
        chosen = select(
            request.question,
            request.sources,
            scorer=self._scorer,
            max_sentences=self._max_sentences,
            min_evidence=request.min_evidence,
        )
        for sentence in chosen:
            yield sentence
        yield GenerationEnd(Usage(), MODEL)

    async def aclose(self) -> None:
        """Close nothing: everything happens here."""
