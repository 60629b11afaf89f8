"""The learned ranker: evaluated as its trees say, the same on every path, harmless when lost."""

import json
from importlib.resources import files
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_copilot.core.vocabulary import Chunk, ScoredChunk
from compliance_copilot.rag import analysis, bm25
from compliance_copilot.rag.evidence import FEATURES
from compliance_copilot.rag.ranking import (
    DEPTH_OF_RERANKING,
    TermStatistics,
    counted,
    counted_from_weights,
    evidence,
    load_ensemble,
    parse_ensemble,
    rerank,
)

TEXTS = (
    "Backups are encrypted with AES-256 and kept for ninety days.",
    "The canteen opens at noon and closes at two.",
    "Encryption keys are rotated every year by the key owner.",
    "Visitors sign the register at the front desk before they enter.",
)
QUESTION = "How are backups encrypted?"


def found(texts: tuple[str, ...] = TEXTS) -> list[ScoredChunk]:
    return [
        ScoredChunk(
            chunk=Chunk(UUID(int=n + 1), "policy", 1, n, 0, len(text), text, "Policy"),
            score=1.0 / (n + 2),
            dense=0.5,
            sparse=1.0,
        )
        for n, text in enumerate(texts)
    ]


def statistics(texts: tuple[str, ...] = TEXTS) -> TermStatistics:
    counts = [analysis.terms(text, "en") for text in texts]
    lengths = [analysis.document_length(c) for c in counts]
    return TermStatistics(
        {t: sum(t in c for c in counts) for t in set().union(*counts)},
        len(texts),
        sum(lengths) / len(lengths),
    )


def test_the_shipped_ranker_fits_its_columns_and_is_small() -> None:
    stored = files("compliance_copilot.rag").joinpath("ranker.json").read_bytes()
    assert len(stored) < 300_000
    assert json.loads(stored)["features"] == list(FEATURES)
    assert len(load_ensemble().values) > 10


def test_a_ranker_for_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="other columns"):
        parse_ensemble({"features": ["length"]})


# A tree is a number (leaf) or (column, threshold, left, right).
columns = st.integers(0, len(FEATURES) - 1)
numbers = st.floats(-2, 2, width=32)


def trees(leaves: int) -> st.SearchStrategy[object]:
    if leaves == 1:
        return numbers
    return st.integers(1, leaves - 1).flatmap(
        lambda left: st.tuples(columns, numbers, trees(left), trees(leaves - left))
    )


def walked(tree: object, row: np.ndarray) -> float:
    while isinstance(tree, tuple):
        column, threshold, left, right = tree
        tree = left if row[column] <= threshold else right
    assert isinstance(tree, float)
    return tree


def packed(tree: object) -> tuple[list[int], list[float], list[int], list[float]]:
    splits: list[int] = []
    thresholds: list[float] = []
    keeps: list[int] = []
    values: list[float] = []

    def visit(node: object) -> list[int]:
        if not isinstance(node, tuple):
            values.append(node)  # type: ignore[arg-type]
            return [len(values) - 1]
        at = len(splits)
        splits.append(node[0])
        thresholds.append(node[1])
        keeps.append(255)
        left = visit(node[2])
        keeps[at] = 255 - sum(1 << leaf for leaf in left)
        return left + visit(node[3])

    visit(tree)
    gap = 7 - len(splits)
    return (
        splits + [0] * gap,
        thresholds + [1e30] * gap,
        keeps + [255] * gap,
        values + [0.0] * (8 - len(values)),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 8).flatmap(trees), min_size=1, max_size=5), st.integers(0, 99))
def test_an_ensemble_scores_what_walking_its_trees_gives(forest: list[object], seed: int) -> None:
    rows = np.random.default_rng(seed).uniform(-2, 2, (9, len(FEATURES))).astype(np.float32)
    splits, thresholds, keeps, values = zip(*map(packed, forest), strict=True)
    ensemble = parse_ensemble(
        {
            "features": list(FEATURES),
            "splits": splits,
            "thresholds": thresholds,
            "keeps": keeps,
            "values": values,
            "scale": 1.0,
            "shift": 0.0,
        }
    )
    expected = [sum(walked(tree, row) for tree in forest) for row in rows]
    assert np.allclose(ensemble.score(rows), expected, atol=1e-5)


def test_chunks_that_meet_the_question_come_first_with_falling_scores() -> None:
    asked = analysis.terms(QUESTION, "en")
    worst_first = list(reversed(found()))
    ranked = rerank(asked, worst_first, statistics())
    assert ranked[0].chunk.text == TEXTS[0]
    scores = [s.score for s in ranked]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert {s.chunk.id for s in ranked} == {s.chunk.id for s in worst_first}


def test_the_raw_parts_survive_the_reranking() -> None:
    ranked = rerank(analysis.terms(QUESTION, "en"), found(), statistics())
    assert all((s.dense, s.sparse) == (0.5, 1.0) for s in ranked)


def test_a_question_without_a_known_word_keeps_order_and_scores() -> None:
    fused = found()
    assert rerank(analysis.terms("zebra", "en"), fused, statistics()) == fused
    assert rerank({}, fused, statistics()) == fused
    assert rerank(analysis.terms(QUESTION, "en"), [], statistics()) == []


def test_no_more_than_the_depth_comes_back_and_a_single_chunk_does() -> None:
    many = found(TEXTS * 40)
    asked = analysis.terms(QUESTION, "en")
    assert len(rerank(asked, many, statistics())) == DEPTH_OF_RERANKING
    assert len(rerank(asked, many[:1], statistics())) == 1


def test_a_chunk_that_the_dense_list_misses_is_ranked_all_the_same() -> None:
    fused = [ScoredChunk(s.chunk, s.score, None, 1.0) for s in found()]
    ranked = rerank(analysis.terms(QUESTION, "en"), fused, statistics())
    assert len(ranked) == len(TEXTS)
    assert all(np.isfinite(s.score) for s in ranked)


def test_counts_read_back_from_stored_weights_are_those_of_the_texts() -> None:
    texts = (*TEXTS, "backup " * 300, "")
    chunks, told = found(texts), statistics(texts)
    asked = list(analysis.terms(QUESTION, "en"))
    stored, lengths = [], []
    for text in texts:
        counts = analysis.terms(text, "en")
        lengths.append(analysis.document_length(counts))
        kept = bm25.document_weights(counts, length=lengths[-1], average_length=told.average_length)
        ids = np.array(sorted(kept), dtype=np.int64)
        stored.append((ids, np.array([kept[t] for t in ids.tolist()], dtype=np.float32)))
    read = counted_from_weights(
        [s.chunk.id for s in chunks], stored, lengths, asked, told.average_length
    )
    slow = counted(chunks, asked)
    terms = dict.fromkeys(asked, 1)
    assert np.array_equal(evidence(terms, chunks, told, read), evidence(terms, chunks, told, slow))


def test_every_column_is_a_finite_number_even_for_empty_chunks() -> None:
    texts = (*TEXTS, "", "the of")
    rows = evidence(
        analysis.terms(QUESTION, "en"),
        found(texts),
        statistics(),
        counted(found(texts), list(analysis.terms(QUESTION, "en"))),
    )
    assert rows.shape == (6, len(FEATURES))
    assert np.isfinite(rows).all()
