"""From a question to ranked sources: embed, search, fuse, look again."""

from collections.abc import Mapping
from dataclasses import dataclass

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import EffectiveConfig, RetrievalMode, ScoredChunk, TenantId
from compliance_copilot.rag import analysis
from compliance_copilot.rag.fusion import fuse, rank_dense
from compliance_copilot.rag.ports import Embedder, HybridQuery, RankedLists, VectorIndex
from compliance_copilot.rag.ranking import DEPTH_OF_RERANKING, rerank

LANGUAGES = ("en", "de")
"""In whose forms a question is looked for, beside its own language's."""

CANDIDATES = 100
"""How many of each list are fused: below that, what one list misses cannot be made up."""


@dataclass(frozen=True, slots=True)
class Retriever:
    """Finds what a tenant's documents say about a question."""

    index: VectorIndex
    embedder: Embedder

    async def retrieve(
        self,
        tenant_id: TenantId,
        question: str,
        config: EffectiveConfig,
        *,
        corpus_version: int,
        deadline: Deadline,
    ) -> list[ScoredChunk]:
        """Return up to `top_k` sources, best first.

        Raises RetrievalUnavailable, ModelUnavailable (the embedder's vendor), DeadlineExceeded.
        """
        embedded = await self.embedder.embed([question], deadline=deadline)
        basic = config.retrieval_mode is RetrievalMode.BASIC
        terms = {} if basic else analysis.query_terms(question, LANGUAGES)
        query = HybridQuery(embedded.vectors[0], terms, corpus_version)
        lists = await self.index.search(
            tenant_id, query, limit=max(CANDIDATES, config.top_k), deadline=deadline
        )
        if basic:
            return rank_dense(lists, limit=config.top_k)
        return _ranked(lists, terms)[: config.top_k]


def _ranked(lists: RankedLists, terms: Mapping[int, int]) -> list[ScoredChunk]:
    fused = fuse(lists, limit=DEPTH_OF_RERANKING)
    if lists.statistics is None:
        return fused
    return rerank(terms, fused, lists.statistics, lists.counts)
