"""The learned ranker: evaluated as its trees say, the same on every path, harmless when lost."""

import json
from importlib.resources import files
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance_copilot.rag import analysis, bm25
from compliance_copilot.rag.contenders import Contender, Place
from compliance_copilot.rag.evidence import FEATURES
from compliance_copilot.rag.ranking import (
    DEPTH_OF_RERANKING,
    TermCounts,
    TermStatistics,
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


def found(texts: tuple[str, ...] = TEXTS) -> list[Contender]:
    return [
        Contender(UUID(int=n + 1), Place("policy", n), 1.0 / (n + 2), 0.5, 1.0)
        for n in range(len(texts))
    ]


def counted(asked: list[int], texts: tuple[str, ...] = TEXTS) -> TermCounts:
    """Count terms in the texts themselves."""
    counts = [analysis.terms(text, analysis.detect_language(text)) for text in texts]
    return TermCounts(
        asked,
        {UUID(int=n + 1): n for n in range(len(texts))},
        np.array([[c.get(term, 0) for term in asked] for c in counts], dtype=np.float32),
        np.array([analysis.document_length(c) for c in counts], dtype=np.float32),
    )


def vectors(texts: tuple[str, ...] = TEXTS) -> np.ndarray:
    """Make up unit vectors, one for each text."""
    made = np.random.default_rng(1).normal(size=(len(texts), 8)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


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


def ranked(
    question: str, fused: list[Contender], texts: tuple[str, ...] = TEXTS
) -> list[Contender]:
    asked = analysis.terms(question, "en")
    return rerank(asked, fused, statistics(texts), counted(list(asked), texts), vectors(texts))


def test_chunks_that_meet_the_question_come_first_with_falling_scores() -> None:
    worst_first = list(reversed(found()))
    best_first = ranked(QUESTION, worst_first)
    assert best_first[0].place.ordinal == 0
    scores = [s.score for s in best_first]
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert {s.chunk_id for s in best_first} == {s.chunk_id for s in worst_first}


def test_the_raw_parts_survive_the_reranking() -> None:
    assert all((s.dense, s.sparse) == (0.5, 1.0) for s in ranked(QUESTION, found()))


def test_a_question_without_a_known_word_keeps_order_and_scores() -> None:
    fused = found()
    assert ranked("zebra", fused) == fused
    assert ranked("", fused) == fused
    assert ranked(QUESTION, []) == []


def test_no_more_than_the_depth_comes_back_and_a_single_chunk_does() -> None:
    texts = TEXTS * 40
    many = found(texts)
    assert len(ranked(QUESTION, many, texts)) == DEPTH_OF_RERANKING
    assert len(ranked(QUESTION, many[:1], texts)) == 1


def test_a_chunk_that_the_dense_list_misses_is_ranked_all_the_same() -> None:
    best_first = ranked(QUESTION, [s._replace(dense=None) for s in found()])
    assert len(best_first) == len(TEXTS)
    assert all(np.isfinite(s.score) for s in best_first)


def test_counts_read_back_from_stored_weights_are_those_of_the_texts() -> None:
    texts = (*TEXTS, "backup " * 300, "")
    told = statistics(texts)
    asked = list(analysis.terms(QUESTION, "en"))
    slow = counted(asked, texts)
    weights = np.zeros_like(slow.frequencies)
    for row, text in enumerate(texts):
        counts = analysis.terms(text, "en")
        length = analysis.document_length(counts)
        kept = bm25.document_weights(counts, length=length, average_length=told.average_length)
        weights[row] = [kept.get(term, 0.0) for term in asked]
    read = bm25.counts_of_weights(weights, slow.lengths, told.average_length)
    assert np.array_equal(read, slow.frequencies)


def test_every_column_is_a_finite_number_even_for_empty_chunks() -> None:
    texts = (*TEXTS, "", "the of")
    asked = analysis.terms(QUESTION, "en")
    rows = evidence(asked, found(texts), statistics(), counted(list(asked), texts), vectors(texts))
    assert rows.shape == (6, len(FEATURES))
    assert np.isfinite(rows).all()


def test_the_strongest_chunk_is_as_near_as_can_be_to_itself() -> None:
    asked = analysis.terms(QUESTION, "en")
    rows = evidence(asked, found(), statistics(), counted(list(asked)), vectors())
    near = rows[:, FEATURES.index("near_first")]
    assert near[0] == pytest.approx(1.0, abs=1e-6)
    assert np.argmax(near) == 0


def test_a_chunk_with_more_of_the_questions_words_is_likelier_to_answer() -> None:
    asked = analysis.terms(QUESTION, "en")
    rows = evidence(asked, found(), statistics(), counted(list(asked)), vectors())
    assert np.argmax(rows[:, FEATURES.index("likelihood")]) == 0
