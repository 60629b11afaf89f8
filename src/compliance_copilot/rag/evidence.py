"""What a question and its candidates have to do with one another, in numbers.

Each candidate chunk becomes one row of `FEATURES`. All of them are relative to the question or to
the other candidates, so they mean the same in a corpus of ten chunks and of a hundred thousand;
none of them knows a word, a title or a corpus. Must not enter: texts, SQL, the learned model.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.rag import bm25

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

FEATURES = (
    "sparse", "dense", "dense_share", "fused", "rank", "sparse_rank", "dense_rank",
    "unigrams", "bigrams", "unigram_cover", "bigram_cover", "unigrams_met", "bigrams_met",
    "rarest_missed", "length", "unigram_density", "bigram_density", "gentle", "strict",
    "question_words", "question_cover", "question_dense", "spread",
    "before", "after", "surroundings", "context_cover", "context_gain",
    "document_share", "siblings_share", "document_best", "document_count",
)  # fmt: skip
"""The columns, in order; `features` explains them."""

_DEEP = 10
_SHARPNESS = 10.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """Up to 100 chunks of one search, best first by `fused`, as arrays of equal length.

    `frequencies`: how often each of the question's terms (columns) occurs in each chunk (rows);
    `lengths`: `analysis.document_length` over the corpus average; `documents`: equal numbers for
    chunks of one document; `ordinals`: the places in it; `dense`: cosines, where the dense list
    does not name a chunk its lowest one.
    """

    fused: Floats
    dense: Floats
    frequencies: Floats
    lengths: Floats
    documents: Integers
    ordinals: Integers


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """The question's side: per term its idf, its idf times count, and whether it is a bigram."""

    idf: Floats
    weights: Floats
    bigrams: NDArray[np.bool_]


def features(question: QuestionTerms, candidates: Candidates) -> Floats:
    """Return one row per candidate: scores, coverage, question and document columns."""
    stored = weights(candidates, bm25.K1, bm25.B)
    sparse = stored @ question.weights
    columns = [
        *_scores(candidates, sparse),
        *_coverage(question, candidates, stored),
        *_question(question, candidates, sparse),
        *_document(question, candidates),
    ]
    return np.column_stack(columns).astype(np.float32, copy=False)


def weights(candidates: Candidates, k1: float, b: float) -> Floats:
    """Return the BM25 weight of each term in each chunk (`bm25.document_weights`, vectorised)."""
    damping = (k1 * (1.0 - b + b * candidates.lengths))[:, None]
    found = candidates.frequencies * (k1 + 1.0) / (candidates.frequencies + damping)
    return found.astype(np.float32, copy=False)


def _scores(candidates: Candidates, sparse: Floats) -> list[Floats]:
    """Both scores beside the best of their kind, and the places that they give."""
    dense, fused = candidates.dense, candidates.fused
    return [
        _beside_best(sparse),
        dense,
        _beside_best(dense),
        fused,
        1.0 / np.arange(1, len(fused) + 1, dtype=np.float32),
        _reciprocal_rank(sparse),
        _reciprocal_rank(dense),
    ]


def _coverage(question: QuestionTerms, candidates: Candidates, stored: Floats) -> list[Floats]:
    """How much of the question a chunk meets, and how much of the chunk is about it."""
    pairs = question.bigrams
    both = np.stack([~pairs, pairs], axis=1).astype(np.float32)
    met = (candidates.frequencies > 0).astype(np.float32)
    scores = stored @ (both * question.weights[:, None])
    cover = met @ (both * question.idf[:, None]) / _sums(both * question.idf[:, None])
    share = met @ both / _sums(both)
    missed = ((1.0 - met) * np.where(pairs, 0.0, question.idf)).max(axis=1, initial=0.0)
    rarest = max(float(np.where(pairs, 0.0, question.idf).max(initial=0.0)), 1e-9)
    density = candidates.frequencies @ both / np.maximum(candidates.lengths, 1e-3)[:, None]
    return [
        _beside_best(scores[:, 0]),
        _beside_best(scores[:, 1]),
        cover[:, 0],
        cover[:, 1],
        share[:, 0],
        share[:, 1],
        missed / rarest,
        np.log1p(candidates.lengths),
        density[:, 0],
        density[:, 1],
        _beside_best(weights(candidates, 1.2, 0.75) @ question.weights),
        _beside_best(weights(candidates, 0.2, 0.9) @ question.weights),
    ]


def _question(question: QuestionTerms, candidates: Candidates, sparse: Floats) -> list[Floats]:
    """What is the same for all candidates: how long the question is and how well it is met."""
    fused = candidates.fused
    tenth = fused[min(_DEEP, len(fused)) - 1]
    values = (
        float((~question.bigrams).sum()),
        float(sparse.max()) / max(float(question.weights.sum()), 1e-9),
        float(candidates.dense.max()),
        float(fused[0] - tenth),
    )
    return [np.full(len(fused), value, dtype=np.float32) for value in values]


def _document(question: QuestionTerms, candidates: Candidates) -> list[Floats]:
    """What the neighbours and the rest of the document say about a chunk."""
    fused = candidates.fused
    same = candidates.documents[:, None] == candidates.documents[None, :]
    apart = candidates.ordinals[None, :] - candidates.ordinals[:, None]
    others = same & (apart != 0)
    near = np.where(others, 1.0 / np.maximum(np.abs(apart), 1), 0.0).astype(np.float32)
    met = (candidates.frequencies > 0).astype(np.float32)
    singles = np.where(question.bigrams, 0.0, question.idf).astype(np.float32)
    context = np.maximum(met, ((near == 1.0).astype(np.float32) @ met) > 0)
    alone, together = met @ singles, context @ singles
    total = max(float(singles.sum()), 1e-9)
    strength = np.exp((fused - fused[0]) * _SHARPNESS)
    shares = same.astype(np.float32) @ strength / strength.sum()
    return [
        (np.where(same & (apart == -1), fused, 0.0)).max(axis=1),
        (np.where(same & (apart == 1), fused, 0.0)).max(axis=1),
        near @ fused,
        together / total,
        (together - alone) / total,
        shares,
        shares - strength / strength.sum(),
        np.where(same, fused, 0.0).max(axis=1),
        others.sum(axis=1) / len(fused),
    ]


def _beside_best(values: Floats) -> Floats:
    found: Floats = values / max(float(values.max()), 1e-9)
    return found


def _sums(columns: Floats) -> Floats:
    found: Floats = np.maximum(columns.sum(axis=0), 1e-9)
    return found


def _reciprocal_rank(values: Floats) -> Floats:
    places = np.empty(len(values), dtype=np.float32)
    places[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return 1.0 / places
