"""The one place where a chunk gets its scores, whichever way it was found.

A search in SQL, in memory or at a vendor only nominates: its own sums differ from another's in the
last bits, and so could ranks. Every path hands over what it found with some margin (`MARGIN`,
`SPARE_CHUNKS`), as it is stored; scores and cuts are made here. Both sums are the same on every
machine and for every set of candidates:

- dense: halves are whole multiples of 2^-24, so products are of 2^-48 and all partial sums of two
  unit vectors fit into 53 bits: float64 is exact, in any order;
- BM25: float64 from left to right over ascending term ids.

Must not enter: SQL, SDKs, texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag import bm25
from compliance_copilot.rag.contenders import Place
from compliance_copilot.rag.ports import HybridQuery, RankedLists, Vectors
from compliance_copilot.rag.ranking import TermCounts, TermStatistics

MARGIN = 1e-4
"""What may be this much (of cosine; of BM25, this share) below the last one is nominated too."""
SPARE_CHUNKS = 200
"""At most so many are nominated beyond the limit; more than these only tie when they are equal."""


@dataclass(frozen=True, slots=True)
class StoredChunks:
    """Candidates of one search as they are stored: chunks (by id) are rows, known terms columns.

    `dense`: halves of shape (chunks, dimensions), as float32; `weights`: (chunks, terms), 0 where
    a chunk has not the term, columns in the order of `statistics`; `lengths` in terms.
    """

    ids: Sequence[UUID]
    chunks: Mapping[UUID, Chunk]
    places: Sequence[Place]
    dense: Vectors
    weights: NDArray[np.float32]
    lengths: NDArray[np.float32]
    statistics: TermStatistics


def statistics_of(
    frequencies: Mapping[int, int], chunk_count: int, average_length: float
) -> TermStatistics:
    """Return a question's statistics: the terms that the corpus knows, by ascending id."""
    known = {term: frequencies[term] for term in sorted(frequencies) if frequencies[term] > 0}
    return TermStatistics(known, chunk_count, average_length)


def ranked_lists(query: HybridQuery, stored: StoredChunks, *, limit: int, path: str) -> RankedLists:
    """Return up to `limit` of the candidates by cosine and up to `limit` by BM25, best first.

    Equal scores are in the order of chunk ids. `path` says where the candidates come from.
    """
    statistics = stored.statistics
    known = bool(statistics.document_frequencies)
    rows = {chunk_id: row for row, chunk_id in enumerate(stored.ids)}
    return RankedLists(
        dense=_best(stored.ids, _cosines(query, stored), limit),
        sparse=_best(stored.ids, _bm25(query, stored), limit, above=0.0) if known else [],
        chunks=stored.chunks,
        places=dict(zip(stored.ids, stored.places, strict=True)),
        statistics=statistics if known and stored.ids else None,
        counts=_counts(stored, rows) if known and stored.ids else None,
        rows=rows,
        vectors=stored.dense,
        path=path,
    )


def _cosines(query: HybridQuery, stored: StoredChunks) -> NDArray[np.float64]:
    if not stored.ids:
        return np.zeros(0)
    asked = query.dense.astype(np.float16).astype(np.float64)
    found: NDArray[np.float64] = stored.dense.astype(np.float64) @ asked
    return found


def _bm25(query: HybridQuery, stored: StoredChunks) -> NDArray[np.float64]:
    statistics = stored.statistics
    frequencies = statistics.document_frequencies
    by_term = bm25.query_weights(query.terms, frequencies, statistics.chunk_count)
    asked = np.array([by_term.get(term, 0.0) for term in frequencies], dtype=np.float64)
    # Not a product of matrices: that adds in whatever order suits the size.
    found: NDArray[np.float64] = np.cumsum(stored.weights * asked, axis=1)[:, -1]
    return found


def _best(
    ids: Sequence[UUID], scores: NDArray[np.float64], limit: int, *, above: float = -np.inf
) -> list[tuple[UUID, float]]:
    best = np.argsort(-scores, kind="stable")[:limit]  # rows are in the order of ids: so are ties
    best = best[scores[best] > above]
    pairs = zip(best.tolist(), scores[best].tolist(), strict=True)
    return [(ids[row], score) for row, score in pairs]


def _counts(stored: StoredChunks, rows: Mapping[UUID, int]) -> TermCounts:
    statistics = stored.statistics
    return TermCounts(
        terms=list(statistics.document_frequencies),
        rows=rows,
        frequencies=bm25.counts_of_weights(
            stored.weights, stored.lengths, statistics.average_length
        ),
        lengths=stored.lengths,
    )
