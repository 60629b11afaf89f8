"""One search: a text becomes a query, the index gives two lists, they become one ranking."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    RetrievalMode,
    ScoredChunk,
    TenantId,
)
from compliance_copilot.rag import analysis
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.explaining import explained, letters_of
from compliance_copilot.rag.filters import Filter
from compliance_copilot.rag.fusion import ends_in_equals, fuse, rank_dense
from compliance_copilot.rag.ports import Embedder, HybridQuery, RankedLists, VectorIndex, Vectors
from compliance_copilot.rag.ranking import DEPTH_OF_RERANKING, rerank
from compliance_copilot.rag.spans import embedding_span
from compliance_copilot.telemetry.tracing import span

LANGUAGES = ("en", "de")
"""In whose forms a question is looked for, beside its own language's."""

CANDIDATES = 100
"""How many of each list are fused: below that, what one list misses cannot be made up."""

SPARE_SOURCES = 10
"""How many more than are wanted a ranking by vectors alone looks at first: equals among them are
put into the order of documents."""


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

    `steps` is what a mode of several steps did; `explained` what each source's score is made of,
    when that was asked for; `embedding_tokens` what the embedder's vendor counted over all steps.
    """

    sources: Sequence[ScoredChunk]
    steps: Sequence[Mapping[str, Any]] = ()
    explained: Sequence[Mapping[str, Any]] = ()
    embedding_tokens: int = 0
    held: int = 0
    """How many sources were held back because they address a model."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one text found: the query made of it, both lists, and the ranking."""

    text: str
    query: HybridQuery
    lists: RankedLists
    fused: Sequence[Contender]
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
        found: Found,
        ranked: Sequence[Contender],
        *,
        beside: Sequence[RankedLists] = (),
        steps: Sequence[Mapping[str, Any]] = (),
    ) -> Retrieved:
        """Return the best `top_k` as sources; each is in what was found or in a list beside."""
        kept = ranked[: self.request.config.top_k]
        where = [_holding(contender, (found.lists, *beside)) for contender in kept]
        pairs = list(zip(kept, where, strict=True))
        return Retrieved(
            sources=[one.of(lists.chunks[one.chunk_id]) for one, lists in pairs],
            steps=steps,
            explained=self._explained(found, pairs) if self.request.explain else (),
            embedding_tokens=self.embedding_tokens,
        )

    def _explained(
        self, found: Found, pairs: Sequence[tuple[Contender, RankedLists]]
    ) -> list[Mapping[str, Any]]:
        letters = letters_of(self.request.question, LANGUAGES)
        filters = self.request.filters
        return [
            entry
            for one, lists in pairs
            for entry in explained(letters, lists, found.fused, [one], filters)
        ]

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
        if basic:
            return await self._by_vectors(text, query)
        lists = await self._lists(query, max(CANDIDATES, request.config.top_k))
        fused = fuse(lists, limit=DEPTH_OF_RERANKING)
        if lists.statistics is None or lists.counts is None or lists.vectors is None:
            return Found(text, query, lists, fused, fused)
        ranked = rerank(query.terms, fused, lists.statistics, lists.counts, lists.vectors)
        return Found(text, query, lists, fused, ranked)

    async def _by_vectors(self, text: str, query: HybridQuery) -> Found:
        wanted = self.request.config.top_k
        most = max(CANDIDATES, wanted)
        limit = min(wanted + SPARE_SOURCES, most)
        lists = await self._lists(query, limit)
        if limit < most and len(lists.dense) == limit and ends_in_equals(lists, limit=wanted):
            lists = await self._lists(query, most)
        return Found(text, query, lists, [], rank_dense(lists, limit=wanted))

    async def _lists(self, query: HybridQuery, limit: int) -> RankedLists:
        with span("search"):
            return await self.index.search(
                self.tenant_id, query, limit=limit, deadline=self.request.deadline
            )


def _holding(contender: Contender, lists: Sequence[RankedLists]) -> RankedLists:
    return next(found for found in lists if contender.chunk_id in found.places)
