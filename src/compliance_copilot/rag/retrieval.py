"""From a question to ranked sources: embed, search, fuse."""

from dataclasses import dataclass

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import EffectiveConfig, RetrievalMode, ScoredChunk, TenantId
from compliance_copilot.rag import analysis
from compliance_copilot.rag.fusion import fuse, rank_dense
from compliance_copilot.rag.ports import Embedder, HybridQuery, VectorIndex

CANDIDATES = 100
"""How many of each list are fused: below that, what one list misses cannot be made up."""


@dataclass(frozen=True, slots=True)
class Retriever:
    """Finds what a tenant's documents say about a question."""

    index: VectorIndex
    embedder: Embedder

    async def retrieve(
        self, tenant_id: TenantId, question: str, config: EffectiveConfig, *, deadline: Deadline
    ) -> list[ScoredChunk]:
        """Return up to `top_k` sources, best first.

        Raises RetrievalUnavailable, ModelUnavailable (the embedder's vendor), DeadlineExceeded.
        """
        embedded = await self.embedder.embed([question], deadline=deadline)
        query = HybridQuery(
            dense=embedded.vectors[0],
            terms=analysis.query_terms(question, ("en", "de")),
        )
        lists = await self.index.search(
            tenant_id, query, limit=max(CANDIDATES, config.top_k), deadline=deadline
        )
        if config.retrieval_mode is RetrievalMode.BASIC:
            return rank_dense(lists, limit=config.top_k)
        return fuse(lists, limit=config.top_k)
