"""BM25 as an inner product: what a chunk stores, and what a question multiplies it with.

Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), section 3:
score(q, d) = sum over terms of idf(t) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * dl / avgdl)).
The idf lives in the question's vector alone, so a chunk's weights stay true when others come and
go. Must not enter: texts, SQL.
"""

from collections.abc import Mapping
from math import log

import numpy as np
from numpy.typing import NDArray

K1 = 0.6
B = 0.6


def document_weights(
    terms: Mapping[int, int],
    *,
    length: int,
    average_length: float,
    k1: float = K1,
    b: float = B,
) -> dict[int, float]:
    """Return per term the saturated, length-normalised frequency of a chunk, below k1 + 1 each.

    `length` and `average_length` count terms (`analysis.document_length`); the average is pinned
    per corpus. An average of 0 (no chunk has a term) leaves length out of account.
    """
    relative = length / average_length if average_length > 0 else 1.0
    damping = k1 * (1.0 - b + b * relative)
    return {term: tf * (k1 + 1.0) / (tf + damping) for term, tf in terms.items()}


def document_weights_of(
    counts: NDArray[np.int32], lengths: NDArray[np.int64], average_length: float
) -> NDArray[np.float64]:
    """Return `document_weights` of many chunks' counts at once: the same numbers to the bit.

    `lengths` has, for each count, that of its chunk.
    """
    weights: NDArray[np.float64] = (
        counts * (K1 + 1.0) / (counts + _damping(lengths, average_length))
    )
    return weights


def counts_behind(
    weights: NDArray[np.float32], lengths: NDArray[np.int64], average_length: float
) -> NDArray[np.int64]:
    """Return the counts behind many chunks' weights: `document_weights_of` read backwards.

    Exact for counts below some hundred thousand, because counts are whole numbers.
    """
    exact = weights.astype(np.float64)
    counts = np.rint(exact * _damping(lengths, average_length) / (K1 + 1.0 - exact))
    return np.maximum(1, counts).astype(np.int64)


def _damping(lengths: NDArray[np.int64], average_length: float) -> NDArray[np.float64]:
    relative = lengths / average_length if average_length > 0 else np.ones(len(lengths))
    return K1 * (1.0 - B + B * relative)


def idf(document_frequency: int, chunk_count: int) -> float:
    """Return log(1 + (N - df + 0.5) / (df + 0.5)): the never negative form of the paper's idf.

    The 1 added inside the logarithm is what Lucene does; without it a term in more than half of
    the chunks would count against them.
    """
    rarity = (chunk_count - document_frequency + 0.5) / (document_frequency + 0.5)
    return log(1.0 + max(rarity, 0.0))


def query_weights(
    terms: Mapping[int, int], document_frequencies: Mapping[int, int], chunk_count: int
) -> dict[int, float]:
    """Return per term of a question its count times its idf; terms that no chunk has are left out.

    The frequencies are the tenant's own: no other tenant's chunk moves them.
    """
    return {
        term: count * idf(document_frequencies[term], chunk_count)
        for term, count in terms.items()
        if document_frequencies.get(term, 0) > 0
    }


def inner_product(query: Mapping[int, float], document: Mapping[int, float]) -> float:
    """Return the BM25 score of a chunk: the sum over the terms that both vectors have."""
    return sum(weight * document[term] for term, weight in query.items() if term in document)


def counts_of_weights(
    weights: NDArray[np.float32],
    lengths: NDArray[np.float32],
    average_length: float,
) -> NDArray[np.float32]:
    """Return the counts behind weights of shape (chunks, terms): `document_weights` backwards.

    Exact for counts below some hundred thousand, because counts are whole numbers.
    """
    ones = np.ones_like(lengths)
    relative = lengths / np.float32(average_length) if average_length > 0 else ones
    damping = (K1 * (1.0 - B + B * relative))[:, None]
    counts: NDArray[np.float32] = np.rint(weights * damping / (K1 + 1.0 - weights))
    return counts.astype(np.float32)
