"""How many candidates a search asks for, and that asking for fewer changes nothing."""
# ruff: noqa: ARG002 - the methods have the parameters of the real ones

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import Chunk, EffectiveConfig, RetrievalMode, TenantId
from compliance_copilot.rag.contenders import place_of
from compliance_copilot.rag.fusion import rank_dense
from compliance_copilot.rag.ports import Embedded, HybridQuery, RankedLists
from compliance_copilot.rag.retrieval import RetrievalRequest
from compliance_copilot.rag.searching import CANDIDATES, SPARE_SOURCES, Search

TOP_K = 5
ENOUGH = TOP_K + SPARE_SOURCES


class Embedder:
    name, provider, dimensions = "none", "local", 4

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        return Embedded(np.zeros((len(texts), 4), dtype=np.float32))


class Index:
    """Chunks with these cosines, best first; places run against the order of ids."""

    def __init__(self, *cosines: float) -> None:
        self.asked: list[int] = []
        self._chunks = {
            UUID(int=n): Chunk(UUID(int=n), "policy", 1, 1000 - n, 0, 1, "x", "Policy")
            for n in range(len(cosines))
        }
        self._dense = list(zip(self._chunks, cosines, strict=True))

    def lists(self, limit: int) -> RankedLists:
        places = {chunk.id: place_of(chunk) for chunk in self._chunks.values()}
        return RankedLists(self._dense[:limit], [], self._chunks, places)

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        self.asked.append(limit)
        return self.lists(limit)

    async def score(
        self,
        tenant_id: TenantId,
        query: HybridQuery,
        chunk_ids: Sequence[UUID],
        *,
        limit: int,
        deadline: Deadline,
    ) -> RankedLists:
        raise NotImplementedError


async def searched(index: Index, mode: RetrievalMode = RetrievalMode.BASIC) -> list[UUID]:
    config = EffectiveConfig(retrieval_mode=mode, top_k=TOP_K)
    request = RetrievalRequest("How long?", config, 1, Deadline.after(5))
    (found,) = await Search(index, Embedder(), TenantId("acme"), request).of(["How long?"])
    return [contender.chunk_id for contender in found.ranked[:TOP_K]]


def among_all(index: Index) -> list[UUID]:
    return [one.chunk_id for one in rank_dense(index.lists(CANDIDATES), limit=TOP_K)]


@pytest.mark.parametrize(
    ("cosines", "asked"),
    [
        ([0.9 - n / 1000 for n in range(200)], [ENOUGH]),
        ([0.9] * (ENOUGH - 1) + [0.1] * 50, [ENOUGH]),
        ([0.9] * ENOUGH + [0.1] * 50, [ENOUGH, CANDIDATES]),
        ([0.9, 0.8, 0.7] + [0.5] * 300, [ENOUGH, CANDIDATES]),
        ([0.9, 0.8] + [-0.1 - n / 1000 for n in range(60)], [ENOUGH, CANDIDATES]),
        ([0.9] * (ENOUGH - 1), [ENOUGH]),
        ([], [ENOUGH]),
    ],
    ids=["apart", "equals end", "equals go on", "a tail of equals", "below 0", "all", "nothing"],
)
async def test_few_are_asked_for_and_more_only_while_equals_may_go_on(
    cosines: list[float], asked: list[int]
) -> None:
    index = Index(*cosines)
    assert await searched(index) == among_all(index)
    assert index.asked == asked


async def test_a_search_by_words_too_asks_for_all_candidates() -> None:
    index = Index(*[0.9 - n / 1000 for n in range(200)])
    await searched(index, RetrievalMode.HYBRID)
    assert index.asked == [CANDIDATES]
