"""One search: a text becomes a query, the index gives two lists, they become one ranking."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import (
    Chunk,
    EffectiveConfig,
    RetrievalMode,
    ScoredChunk,
    TenantId,
)
from compliance_copilot.rag import analysis
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.filters import Filter
from compliance_copilot.rag.fusion import fuse, rank_dense
from compliance_copilot.rag.ports import Embedder, HybridQuery, RankedLists, VectorIndex, Vectors
from compliance_copilot.rag.ranking import DEPTH_OF_RERANKING, rerank
from compliance_copilot.rag.spans import embedding_span
from compliance_copilot.telemetry.tracing import span

LANGUAGES = ("en", "de")
"""In whose forms a question is looked for, beside its own language's."""

CANDIDATES = 100
"""How many of each list are fused: below that, what one list misses cannot be made up."""


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """A question with all that decides which sources it finds.

    `corpus_version` is what admission saw. `filters` and `as_of` (the versions in force then)
    belong into the key of whatever keeps results. `explain` asks for the parts of each score.
    """

    question: str
    config: EffectiveConfig
    corpus_version: int
    deadline: Deadline
    filters: Filter | None = None
    as_of: datetime | None = None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Sources, best first, and how they were found.

    `steps` is what a mode of several steps did; `embedding_tokens` what the embedder's vendor
    counted over all of them.
    """

    sources: Sequence[ScoredChunk]
    steps: Sequence[Mapping[str, Any]] = ()
    embedding_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What one text found: the query made of it, both lists, and the ranking."""

    text: str
    query: HybridQuery
    lists: RankedLists
    ranked: Sequence[Contender]


@dataclass(slots=True)
class Search:
    """The searches of one request, all under its configuration, filters, instant and deadline."""

    index: VectorIndex
    embedder: Embedder
    tenant_id: TenantId
    request: RetrievalRequest
    embedding_tokens: int = field(default=0, init=False)

    async def of(self, texts: Sequence[str]) -> list[Found]:
        """Search for each text. Raises as `Retriever.retrieve`."""
        deadline = self.request.deadline
        with embedding_span(self.embedder):
            embedded = await self.embedder.embed(texts, deadline=deadline)
        self.embedding_tokens += embedded.input_tokens
        pairs = zip(texts, embedded.vectors, strict=True)
        if len(texts) == 1:
            return [await self._one(text, vector) for text, vector in pairs]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._one(text, vector)) for text, vector in pairs]
        return [task.result() for task in running]

    async def score(self, query: HybridQuery, chunk_ids: Sequence[UUID]) -> RankedLists:
        """Score these chunks as a search for the query does."""
        return await self.index.score(
            self.tenant_id, query, chunk_ids, limit=len(chunk_ids), deadline=self.request.deadline
        )

    def retrieved(
        self,
        ranked: Sequence[Contender],
        chunks: Mapping[UUID, Chunk],
        steps: Sequence[Mapping[str, Any]] = (),
    ) -> Retrieved:
        """Return the best `top_k` as sources."""
        kept = ranked[: self.request.config.top_k]
        sources = [contender.of(chunks[contender.chunk_id]) for contender in kept]
        return Retrieved(sources, steps, self.embedding_tokens)

    async def _one(self, text: str, vector: Vectors) -> Found:
        request = self.request
        basic = request.config.retrieval_mode is RetrievalMode.BASIC
        query = HybridQuery(
            vector,
            {} if basic else analysis.query_terms(text, LANGUAGES),
            request.corpus_version,
            embedder=self.embedder.name,
            filters=request.filters,
            as_of=request.as_of,
        )
        limit = max(CANDIDATES, request.config.top_k)
        with span("search"):
            lists = await self.index.search(
                self.tenant_id, query, limit=limit, deadline=request.deadline
            )
        ranked = rank_dense(lists, limit=request.config.top_k) if basic else _ranked(lists, query)
        return Found(text, query, lists, ranked)


def _ranked(lists: RankedLists, query: HybridQuery) -> list[Contender]:
    fused = fuse(lists, limit=DEPTH_OF_RERANKING)
    if lists.statistics is None or lists.counts is None:
        return fused
    return rerank(query.terms, fused, lists.statistics, lists.counts)
