"""What a question and its candidates have to do with one another, in numbers.

Each candidate chunk becomes one row of `FEATURES`. All of them are relative to the question or to
the other candidates, so they mean the same in a corpus of ten chunks and of a hundred thousand;
none of them knows a word, a title or a corpus. Must not enter: texts, SQL, the learned model.
"""

from dataclasses import dataclass
from math import sqrt

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
    "document_share", "siblings_share", "document_best", "document_count", "vicinity",
    "sparse_apart", "dense_apart", "likelihood", "near_strongest", "near_first",
)  # fmt: skip
"""The columns, in order; `features` explains them."""

_DEEP = 10
_SHARPNESS = 10.0
_VICINITY = 3
_STRONGEST = 5
_LEAD = 5.0
_SMOOTHING = 2.0
"""Of the query likelihood: in average lengths of a chunk."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Up to 100 chunks of one search, best first by `fused`, as arrays of equal length.

    `frequencies`: how often each of the question's terms (columns) occurs in each chunk (rows);
    `lengths`: `analysis.document_length` over the corpus average; `documents`: equal numbers for
    chunks of one document; `ordinals`: the places in it; `dense`: cosines, where the dense list
    does not name a chunk its lowest one; `vectors`: unit vectors as rows.
    """

    fused: Floats
    dense: Floats
    frequencies: Floats
    lengths: Floats
    documents: Integers
    ordinals: Integers
    vectors: Floats


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
        _apart(sparse),
        _apart(candidates.dense),
        _apart(_likelihood(question, candidates)),
        *_nearness(candidates),
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
    count = len(fused)
    one, other, apart = _siblings(candidates)
    steps = np.abs(apart)
    before, after, vicinity = np.zeros((3, count), dtype=np.float32)
    before[one[apart == -1]] = fused[other[apart == -1]]
    after[one[apart == 1]] = fused[other[apart == 1]]
    near = steps <= _VICINITY
    np.maximum.at(vicinity, one[near], fused[other[near]])
    met = (candidates.frequencies > 0).astype(np.float32)
    context = met.copy()
    np.maximum.at(context, one[steps == 1], met[other[steps == 1]])
    singles = np.where(question.bigrams, 0.0, question.idf).astype(np.float32)
    alone, together = met @ singles, context @ singles
    total = max(float(singles.sum()), 1e-9)
    _, first, document = np.unique(candidates.documents, return_index=True, return_inverse=True)
    strength = np.exp((fused - fused[0]) * _SHARPNESS)
    shares = np.bincount(document, strength)[document] / strength.sum()
    return [
        before,
        after,
        np.bincount(one, fused[other] / steps, count),
        together / total,
        (together - alone) / total,
        shares,
        shares - strength / strength.sum(),
        fused[first[document]],  # best first
        (np.bincount(document)[document] - 1) / count,
        vicinity,
    ]


def _siblings(candidates: Candidates) -> tuple[Integers, Integers, Integers]:
    """Return all pairs of two chunks of one document, and how far the second is behind."""
    documents, ordinals = candidates.documents, candidates.ordinals
    one, other = np.nonzero((documents[:, None] == documents) & (ordinals[:, None] != ordinals))
    return one, other, ordinals[other] - ordinals[one]


def _likelihood(question: QuestionTerms, candidates: Candidates) -> Floats:
    """Return how likely the question's words are in a language model of each chunk.

    With Dirichlet smoothing (Zhai & Lafferty 2004); a word's frequency in the corpus is taken from
    its idf, and the length counts half, because chunks are of about one length.
    """
    singles = ~question.bigrams
    rarity = np.exp(question.idf[singles]) / _SMOOTHING
    repeated = question.weights[singles] / np.maximum(question.idf[singles], 1e-6)
    met = np.log1p(candidates.frequencies[:, singles] * rarity) @ repeated
    room = np.log1p(candidates.lengths / _SMOOTHING)
    found: Floats = met - 0.5 * singles.sum() * room
    return found


def _nearness(candidates: Candidates) -> list[Floats]:
    """How alike a chunk is to the strongest ones together, and to the very first."""
    vectors, lead = candidates.vectors, candidates.fused[:_STRONGEST]
    shares = np.exp((lead - lead[0]) * _LEAD)
    centre = shares @ vectors[:_STRONGEST]
    centre = centre / max(sqrt(float(centre @ centre)), 1e-9)
    return [vectors @ centre, vectors @ vectors[0]]


def _apart(values: Floats) -> Floats:
    """Return how many standard deviations each value lies above the mean."""
    centred = values - values.sum() / len(values)
    found: Floats = centred / max(sqrt(float(centred @ centred) / len(values)), 1e-6)
    return found


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
