"""What a request's embeddings cost: counted call by call, also when the work ends badly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import ModelUnavailable
from compliance_copilot.core.vocabulary import EffectiveConfig, Reservation, RetrievalMode, Usage
from compliance_copilot.orchestrator.rooms import Rooms
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.ports import Embedded, Embedder
from compliance_copilot.rag.retrieval import Retriever
from compliance_copilot.tenancy.admission import Planner

LOCAL = "local"
_MOST_TEXT_TOKENS = 8_192  # what a vendor's embedder takes of one text
_UNKNOWN = frozenset({"timeout", "interrupted"})
"""Failures after which the vendor may have done its work all the same."""


class MeteredEmbedder:
    """An embedder of one request: each call is noted on the request's meter."""

    def __init__(self, embedder: Embedder, meter: Meter) -> None:
        self._embedder = embedder
        self._meter = meter
        self.name = embedder.name
        self.provider = embedder.provider
        self.dimensions = embedder.dimensions

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        """Embed, and note what it has cost."""
        if not texts:
            return await self._embedder.embed(texts, deadline=deadline)
        used = self._meter.known or Usage()
        self._meter.sent, self._meter.known = True, None
        try:
            embedded = await self._embedder.embed(texts, deadline=deadline)
        except ModelUnavailable as error:
            partly = error.facts.get("usage")
            if isinstance(partly, Usage) and error.facts.get("reason") not in _UNKNOWN:
                self._meter.known = _sum(used, partly.input_tokens)
            raise
        self._meter.known = _sum(used, embedded.input_tokens)
        return embedded


def _sum(used: Usage, tokens: int) -> Usage:
    return Usage(used.input_tokens + tokens, 0)


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedder's side of a request; for a local one there is nothing to count."""

    rooms: Rooms

    @property
    def embedder(self) -> Embedder:
        """The embedder of this deployment."""
        return self.rooms.retriever.embedder

    @property
    def hosted(self) -> bool:
        """Whether a vendor embeds, so that its calls have a row of their own."""
        return self.embedder.provider != LOCAL

    def retriever(self, meter: Meter) -> Retriever:
        """Return the retriever of one request."""
        if not self.hosted:
            return self.rooms.retriever
        return replace(self.rooms.retriever, embedder=MeteredEmbedder(self.embedder, meter))

    def ingestion(self, meter: Meter) -> Ingestion:
        """Return the ingestion of one request."""
        if not self.hosted:
            return self.rooms.ingestion
        return self.rooms.ingestion.embedding_with(MeteredEmbedder(self.embedder, meter))

    def for_question(self, question: str) -> Planner:
        """Return the plan of a question's embeddings; a token is at least one byte."""
        once = min(len(question.encode()), _MOST_TEXT_TOKENS)

        def plan(config: EffectiveConfig) -> Reservation:
            several = config.retrieval_mode is RetrievalMode.AGENTIC
            # Sub-questions and what is referred to: their number is bounded, their words are not.
            most = once + (2 * config.max_steps * _MOST_TEXT_TOKENS if several else 0)
            return self._reservation(most)

        return plan

    def for_step(self, config: EffectiveConfig) -> Reservation:
        """Return what a further step of an agentic question embeds at most."""
        return self._reservation(config.max_steps * _MOST_TEXT_TOKENS)

    def for_texts(self, texts: Sequence[str]) -> Planner:
        """Return the plan of an ingest's embeddings."""
        most = sum(len(text.encode("utf-8", "replace")) for text in texts) if self.hosted else 0
        return lambda _config: self._reservation(most)

    def _reservation(self, most_tokens: int) -> Reservation:
        prices = self.rooms.metering.prices
        embedder = self.embedder
        if not self.hosted:
            return Reservation(embedder.provider, embedder.name, prices.version)
        cost = prices.cost(embedder.name, Usage(most_tokens, 0))
        return Reservation(
            embedder.provider, embedder.name, prices.version, cost.micro_usd, cost.unpriced
        )

    def settlement(self, outcome: str, meter: Meter) -> Settlement:
        """Return how the embedding of a request ended; as the vendor's if it was called at all."""
        if self.hosted and not meter.sent:
            return Settlement(outcome, provider=LOCAL)
        embedder = self.embedder
        usage = meter.known or Usage()
        return Settlement(outcome, provider=embedder.provider, model=embedder.name, usage=usage)
