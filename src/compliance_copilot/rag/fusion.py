"""One ranking out of two: min-max normalised linear fusion.

Both lists are stretched to 0..1 and added with a weight; a chunk that one list does not name gets
0 from it. On the questions we measured with (`docs/retrieval.md`) this beats reciprocal rank fusion
(Cormack 2009), because scores say how far apart two chunks are and ranks do not.

The stretching forgets how strong the evidence is as a whole: the best chunk of a hopeless search
scores as high as that of a good one. Whoever judges evidence reads `dense` (a cosine) and `sparse`
(BM25), which each scored chunk carries unchanged. Must not enter: texts, SQL.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from compliance_copilot.rag.contenders import Contender, Place
from compliance_copilot.rag.ports import RankedLists

SPARSE_WEIGHT = 0.75


def fuse(
    lists: RankedLists, *, sparse_weight: float = SPARSE_WEIGHT, limit: int
) -> list[Contender]:
    """Return up to `limit` chunks by weighted sum of both scores, best first, score in 0..1.

    Equal scores are ordered by document and place in it, so the same lists give the same order.
    """
    dense, sparse, places = dict(lists.dense), dict(lists.sparse), lists.places
    dense_share, sparse_share = normalised(lists.dense), normalised(lists.sparse)
    scored = [
        Contender(
            chunk_id,
            places[chunk_id],
            (1.0 - sparse_weight) * dense_share.get(chunk_id, 0.0)
            + sparse_weight * sparse_share.get(chunk_id, 0.0),
            dense.get(chunk_id),
            sparse.get(chunk_id),
        )
        for chunk_id in {**dense, **sparse}
    ]
    return sorted(scored, key=_order)[:limit]


def rank_dense(lists: RankedLists, *, limit: int) -> list[Contender]:
    """Return up to `limit` chunks by inner product alone; the score is the cosine, at least 0."""
    sparse = dict(lists.sparse)
    scored = [
        Contender(
            chunk_id, lists.places[chunk_id], _share(similarity), similarity, sparse.get(chunk_id)
        )
        for chunk_id, similarity in _first(lists.dense, limit)
    ]
    return sorted(scored, key=_order)[:limit]


def ends_in_equals(lists: RankedLists, *, limit: int) -> bool:
    """Tell whether all behind the first `limit` are equal to the last of them, by inner product."""
    return len(_first(lists.dense, limit)) == len(lists.dense)


def _first(ranked: Sequence[tuple[UUID, float]], limit: int) -> Sequence[tuple[UUID, float]]:
    """Return the first `limit`, and those behind that are equal to the last of them."""
    end = min(limit, len(ranked))
    while 0 < end < len(ranked) and _share(ranked[end][1]) == _share(ranked[limit - 1][1]):
        end += 1
    return ranked[:end]


def _share(similarity: float) -> float:
    return min(max(similarity, 0.0), 1.0)


def normalised(ranked: Sequence[tuple[UUID, float]]) -> Mapping[UUID, float]:
    """Stretch scores to 0..1; equal scores all become 1."""
    if not ranked:
        return {}
    values = [score for _, score in ranked]
    low, spread = min(values), max(values) - min(values)
    if spread <= 0.0:
        return {chunk_id: 1.0 for chunk_id, _ in ranked}
    return {chunk_id: (score - low) / spread for chunk_id, score in ranked}


def _order(contender: Contender) -> tuple[float, Place, UUID]:
    return (-contender.score, contender.place, contender.chunk_id)
