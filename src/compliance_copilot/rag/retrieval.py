"""From a question to ranked sources: embed, search, fuse, look again."""

import time
from dataclasses import dataclass

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.util.types import AttributeValue

<<<<<<< HEAD
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import EffectiveConfig, RetrievalMode, ScoredChunk, TenantId
from compliance_copilot.rag import analysis
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.explaining import explained, letters_of
from compliance_copilot.rag.filters import Filter
from compliance_copilot.rag.fusion import fuse, rank_dense
from compliance_copilot.rag.ports import Embedder, HybridQuery, RankedLists, VectorIndex
from compliance_copilot.rag.ranking import DEPTH_OF_RERANKING, rerank
from compliance_copilot.rag.spans import embedding_span
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import content_is_on, span

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

    `steps` is what a mode of several steps did; `explained` what each source's score is made of,
    when that was asked for; `embedding_tokens` what the embedder's vendor
    counted over all of them.
    """

    sources: Sequence[ScoredChunk]
    steps: Sequence[Mapping[str, Any]] = ()
    explained: Sequence[Mapping[str, Any]] = ()
    embedding_tokens: int = 0
=======
from compliance_copilot.core.vocabulary import RetrievalMode, TenantId
from compliance_copilot.rag.investigating import Alone, Companion, Investigation
from compliance_copilot.rag.linked import LinkedChunks
from compliance_copilot.rag.ports import Embedder, VectorIndex
from compliance_copilot.rag.searching import RetrievalRequest, Retrieved, Search
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import content_is_on, span

__all__ = ["RetrievalRequest", "Retrieved", "Retriever"]
_ALONE = Alone()
>>>>>>> cf3bcca (The agentic mode: parts, references, surroundings, missing words, a third look)


@dataclass(frozen=True, slots=True)
class Retriever:
    """Finds what a tenant's documents say about a question."""

    index: VectorIndex
    embedder: Embedder
    links: LinkedChunks

    async def retrieve(
        self, tenant_id: TenantId, request: RetrievalRequest, companion: Companion = _ALONE
    ) -> Retrieved:
        """Return up to `top_k` sources, best first. A mode of several steps has a companion.

        Raises RetrievalUnavailable, ModelUnavailable (the embedder's vendor), DeadlineExceeded.
        """
        began = time.perf_counter()
        with span("retrieve", _told(request)) as retrieving:
            found = await self._found(tenant_id, request, companion)
            retrieving.set_attribute("sources", len(found.sources))
        mode = request.config.retrieval_mode.value
        metrics.RETRIEVAL.labels(mode).observe(time.perf_counter() - began)
        return found

<<<<<<< HEAD
    async def _found(self, tenant_id: TenantId, request: RetrievalRequest) -> Retrieved:
        config = request.config
        with embedding_span(self.embedder):
            embedded = await self.embedder.embed([request.question], deadline=request.deadline)
        basic = config.retrieval_mode is RetrievalMode.BASIC
        terms = {} if basic else analysis.query_terms(request.question, LANGUAGES)
        query = HybridQuery(
            embedded.vectors[0],
            terms,
            request.corpus_version,
            embedder=self.embedder.name,
            filters=request.filters,
            as_of=request.as_of,
        )
        with span("search"):
            lists = await self.index.search(
                tenant_id, query, limit=max(CANDIDATES, config.top_k), deadline=request.deadline
            )
        fused = [] if basic else fuse(lists, limit=DEPTH_OF_RERANKING)
        ranked = rank_dense(lists, limit=config.top_k) if basic else _ranked(lists, fused, terms)
        ranked = ranked[: config.top_k]
        told: Sequence[Mapping[str, Any]] = ()
        if request.explain:
            letters = letters_of(request.question, LANGUAGES)
            told = explained(letters, lists, fused, ranked, request.filters)
        sources = [found.of(lists.chunks[found.chunk_id]) for found in ranked]
        return Retrieved(sources, explained=told, embedding_tokens=embedded.input_tokens)
=======
    async def _found(
        self, tenant_id: TenantId, request: RetrievalRequest, companion: Companion
    ) -> Retrieved:
        search = Search(self.index, self.embedder, tenant_id, request)
        if request.config.retrieval_mode is RetrievalMode.AGENTIC:
            return await Investigation(search, self.links, companion).run()
        (found,) = await search.of([request.question])
        return search.retrieved(found.ranked, found.lists.chunks)
>>>>>>> cf3bcca (The agentic mode: parts, references, surroundings, missing words, a third look)


def _told(request: RetrievalRequest) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        gen_ai.GEN_AI_OPERATION_NAME: "retrieval",
        gen_ai.GEN_AI_REQUEST_TOP_K: request.config.top_k,
        "mode": request.config.retrieval_mode.value,
    }
    if content_is_on():
        told[gen_ai.GEN_AI_RETRIEVAL_QUERY_TEXT] = request.question
    return told
<<<<<<< HEAD


def _ranked(
    lists: RankedLists, fused: list[Contender], terms: Mapping[int, int]
) -> list[Contender]:
    if lists.statistics is None or lists.counts is None:
        return fused
    return rerank(terms, fused, lists.statistics, lists.counts)
=======
>>>>>>> cf3bcca (The agentic mode: parts, references, surroundings, missing words, a third look)
