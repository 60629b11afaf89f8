"""From a question to ranked sources: embed, search, fuse, look again."""

import time
from dataclasses import dataclass

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.util.types import AttributeValue

from compliance_copilot.core.vocabulary import RetrievalMode, TenantId
from compliance_copilot.rag.investigating import Alone, Companion, Investigation
from compliance_copilot.rag.linked import LinkedChunks
from compliance_copilot.rag.ports import Embedder, VectorIndex
from compliance_copilot.rag.searching import RetrievalRequest, Retrieved, Search
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import content_is_on, is_on, span

__all__ = ["RetrievalRequest", "Retrieved", "Retriever"]
_ALONE = Alone()


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
        with span("retrieve", _told(request) if is_on() else None) as retrieving:
            found = await self._found(tenant_id, request, companion)
            retrieving.set_attribute("sources", len(found.sources))
        mode = request.config.retrieval_mode.value
        metrics.RETRIEVAL.labels(mode).observe(time.perf_counter() - began)
        return found

    async def _found(
        self, tenant_id: TenantId, request: RetrievalRequest, companion: Companion
    ) -> Retrieved:
        search = Search(self.index, self.embedder, tenant_id, request)
        if request.config.retrieval_mode is RetrievalMode.AGENTIC:
            return await Investigation(search, self.links, companion).run()
        (found,) = await search.of([request.question])
        return search.retrieved(found, found.ranked)


def _told(request: RetrievalRequest) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        gen_ai.GEN_AI_OPERATION_NAME: "retrieval",
        gen_ai.GEN_AI_REQUEST_TOP_K: request.config.top_k,
        "mode": request.config.retrieval_mode.value,
    }
    if content_is_on():
        told[gen_ai.GEN_AI_RETRIEVAL_QUERY_TEXT] = request.question
    return told
