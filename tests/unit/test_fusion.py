"""Two lists become one, the same one every time."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag.contenders import Place, place_of
from compliance_copilot.rag.fusion import fuse, rank_dense
from compliance_copilot.rag.ports import RankedLists


def chunk(number: int, document_id: str = "policy", ordinal: int | None = None) -> Chunk:
    return Chunk(
        id=UUID(int=number),
        document_id=document_id,
        version=1,
        ordinal=number if ordinal is None else ordinal,
        start=0,
        end=1,
        text="x",
        title="Policy",
    )


def lists(
    dense: Sequence[tuple[int, float]], sparse: Sequence[tuple[int, float]], *chunks: Chunk
) -> RankedLists:
    known = {c.id: c for c in chunks} or {
        UUID(int=n): chunk(n) for n in {n for n, _ in [*dense, *sparse]}
    }
    return RankedLists(
        dense=[(UUID(int=n), score) for n, score in dense],
        sparse=[(UUID(int=n), score) for n, score in sparse],
        chunks=known,
        places={c.id: place_of(c) for c in known.values()},
    )


def test_scores_are_stretched_weighted_and_added() -> None:
    found = fuse(
        lists([(1, 0.9), (2, 0.5), (3, 0.1)], [(2, 8.0), (3, 4.0), (4, 0.0)]),
        sparse_weight=0.6,
        limit=10,
    )
    assert [(s.chunk_id.int, round(s.score, 6)) for s in found] == [
        (2, 0.8),  # 0.4 * 0.5 + 0.6 * 1
        (1, 0.4),  # 0.4 * 1 + 0.6 * 0, missing from the sparse list
        (3, 0.3),  # 0.4 * 0 + 0.6 * 0.5
        (4, 0.0),
    ]


def test_the_raw_parts_stay_what_the_index_said() -> None:
    found = {s.chunk_id.int: s for s in fuse(lists([(1, 0.2)], [(2, 7.5)]), limit=2)}
    assert (found[1].dense, found[1].sparse) == (0.2, None)
    assert (found[2].dense, found[2].sparse) == (None, 7.5)


def test_ties_go_by_document_and_place() -> None:
    tied = [chunk(1, "b", 0), chunk(2, "a", 7), chunk(3, "a", 2)]
    found = fuse(lists([(1, 0.5), (2, 0.5), (3, 0.5)], [], *tied), limit=3)
    assert [s.chunk_id.int for s in found] == [3, 2, 1]


def test_only_the_best_are_returned_and_nothing_from_nothing() -> None:
    assert len(fuse(lists([(1, 0.9), (2, 0.5)], []), limit=1)) == 1
    assert fuse(lists([], []), limit=5) == []


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_weight_at_its_end_follows_one_list_alone(weight: float) -> None:
    found = fuse(lists([(1, 0.9), (2, 0.1)], [(2, 9.0), (1, 1.0)]), sparse_weight=weight, limit=2)
    assert found[0].chunk_id.int == (2 if weight else 1)


scores = st.dictionaries(st.integers(1, 30), st.floats(-1, 50), max_size=12)


@given(scores, scores, st.floats(0, 1), st.randoms())
def test_the_order_of_the_lists_changes_nothing_and_scores_stay_in_range(
    dense: dict[int, float], sparse: dict[int, float], weight: float, random: object
) -> None:
    one = list(dense.items()), list(sparse.items())
    two = list(reversed(one[0])), sorted(one[1])
    first = fuse(lists(*one), sparse_weight=weight, limit=30)
    assert first == fuse(lists(*two), sparse_weight=weight, limit=30)
    assert all(0.0 <= s.score <= 1.0 + 1e-12 for s in first)


def test_basic_goes_by_cosine_alone() -> None:
    found = rank_dense(lists([(2, 0.3), (1, 0.8), (3, -0.1)], [(2, 9.0)]), limit=2)
    assert [(s.chunk_id.int, s.score) for s in found] == [(1, 0.8), (2, 0.3)]
    assert found[1].sparse == 9.0


def test_what_is_equally_near_comes_in_the_order_of_its_place_whatever_is_wanted() -> None:
    ids = [UUID(int=n) for n in range(6)]
    lists = RankedLists(
        dense=[(ids[0], 0.9), (ids[1], 0.5), (ids[2], 0.5), (ids[3], 0.5), (ids[4], 0.1)],
        sparse=[],
        chunks={},
        places={id_: Place(0, 10 - number) for number, id_ in enumerate(ids)},
    )
    whole = [one.chunk_id for one in rank_dense(lists, limit=5)]
    assert whole == [ids[0], ids[3], ids[2], ids[1], ids[4]]
    for limit in range(1, 8):
        assert [one.chunk_id for one in rank_dense(lists, limit=limit)] == whole[:limit]
