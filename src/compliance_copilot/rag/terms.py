"""The terms of many chunks, as columns: a fraction of the room and time of a dict for each chunk.

Pure; must not enter: texts, SQL.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.rag import bm25

_ID_BITS = 30  # ids end below 1,000,000,000


@dataclass(frozen=True, slots=True)
class ChunkTerms:
    """Term ids, ascending in each chunk, and how often each occurs there.

    Those of chunk i lie in `starts[i]:starts[i + 1]`.
    """

    ids: NDArray[np.int32]
    counts: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each chunk that BM25 weighs by: its terms, each as often as it occurs."""
        sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.counts)])
        lengths: NDArray[np.int64] = sums[self.starts[1:]] - sums[self.starts[:-1]]
        return lengths

    def weights(self, average_length: float) -> NDArray[np.float64]:
        """Return the BM25 weight of each term in its chunk, for a pinned average length."""
        return bm25.document_weights_of(self.counts, self._spread_lengths(), average_length)

    def rows(self, values: NDArray[np.float64]) -> list[dict[int, float]]:
        """Return a value for each term as a dict for each chunk."""
        ids, given, starts = self.ids.tolist(), values.tolist(), self.starts.tolist()
        return [
            dict(zip(ids[start:end], given[start:end], strict=True))
            for start, end in pairwise(starts)
        ]

    def _spread_lengths(self) -> NDArray[np.int64]:
        return np.repeat(self.lengths, np.diff(self.starts))


def grouped(chunks: NDArray[np.int64], ids: NDArray[np.int64], count: int) -> ChunkTerms:
    """Return the terms of `count` chunks from occurrences: a chunk's place and a term each."""
    keys, counts = np.unique((chunks << _ID_BITS) | ids, return_counts=True)
    starts = np.searchsorted(keys, np.arange(count + 1) << _ID_BITS)
    return ChunkTerms(
        (keys & ((1 << _ID_BITS) - 1)).astype(np.int32), counts.astype(np.int32), starts
    )


def from_weights(
    ids: NDArray[np.int64],
    weights: NDArray[np.float32],
    starts: NDArray[np.int64],
    *,
    lengths: Sequence[int],
    average_length: float,
) -> ChunkTerms:
    """Return the terms behind the stored weights of chunks: `weights` read backwards."""
    spread = np.repeat(np.asarray(lengths, dtype=np.int64), np.diff(starts))
    counts = bm25.counts_behind(weights, spread, average_length)
    return ChunkTerms(ids.astype(np.int32), counts.astype(np.int32), starts)


def all_of(parts: Sequence[ChunkTerms]) -> ChunkTerms:
    """Return the terms of chunks of several parts, one after another."""
    ends = np.cumsum([0, *(len(part.ids) for part in parts)], dtype=np.int64)
    starts = [part.starts[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
    return ChunkTerms(
        joined(part.ids for part in parts),
        joined(part.counts for part in parts),
        np.concatenate([*starts, ends[-1:]]),
    )


def joined(parts: Iterable[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Return columns one after another; none give an empty one."""
    return np.concatenate([np.zeros(0, dtype=np.int32), *parts])
