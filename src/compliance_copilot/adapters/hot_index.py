"""Tenants in use, in memory: the same two lists as the SQL search, in a fraction of the time.

Wraps the index it stands before: what is not in memory at the corpus version that admission saw
is asked there, and brought into memory in the background. Never stale, because the version is
part of the question; bounded in bytes, the longest unused goes first.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.adapters.pgvector_index import chunk_of
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.vocabulary import Chunk, TenantId
from compliance_copilot.rag import bm25
from compliance_copilot.rag.ports import HybridQuery, RankedLists, VectorIndex
from compliance_copilot.rag.ranking import TermCounts, TermStatistics
from compliance_copilot.storage.database import Database, Row
from compliance_copilot.storage.vectors import decode_dense, decode_sparse_arrays

_LOAD = "SELECT * FROM load_corpus($1)"
_LOAD_SECONDS = 60.0
_CHUNK_OVERHEAD_BYTES = 600  # a Chunk with its strings' heads, its id and its headings
_THREAD_ROWS = 20_000
"""From here on a search takes milliseconds: it leaves the event loop."""

LOG = logging.getLogger(__name__)
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HotCorpus:
    """One tenant's corpus at one version, rows in the order of chunk ids.

    Postings are columns: `terms` ascending, those of `terms[i]` lie in
    `rows[spans[i]:spans[i + 1]]` with their BM25 weights beside them.
    """

    version: int
    pinned_length: float
    chunks: Sequence[Chunk]
    vectors: Floats
    lengths: Floats
    terms: NDArray[np.int64]
    spans: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: Floats

    @property
    def nbytes(self) -> int:
        """Bytes that this corpus holds, texts included, roughly."""
        arrays = (self.vectors, self.lengths, self.terms, self.spans, self.rows, self.weights)
        texts = sum(len(chunk.text) for chunk in self.chunks)
        return sum(a.nbytes for a in arrays) + texts + _CHUNK_OVERHEAD_BYTES * len(self.chunks)

    def search(self, query: HybridQuery, limit: int) -> RankedLists:
        """Return both lists, best first; equal scores in the order of chunk ids."""
        postings = self._postings(query.terms)
        frequencies = {t: span.stop - span.start for t, span in postings.items()}
        statistics = TermStatistics(frequencies, len(self.chunks), self.pinned_length)
        # The stored side is half precision; the question is rounded alike.
        asked = query.dense.astype(np.float16).astype(np.float32)
        dense = _best(self.vectors @ asked, limit, floor=-np.inf)
        scores = np.zeros(len(self.chunks), dtype=np.float32)
        weights = bm25.query_weights(query.terms, frequencies, len(self.chunks))
        for term, weight in weights.items():
            scores[self.rows[postings[term]]] += weight * self.weights[postings[term]]
        sparse = _best(scores, limit, floor=0.0) if weights else []
        found = sorted({row for row, _ in (*dense, *sparse)})
        return RankedLists(
            dense=[(self.chunks[row].id, score) for row, score in dense],
            sparse=[(self.chunks[row].id, score) for row, score in sparse],
            chunks={self.chunks[row].id: self.chunks[row] for row in found},
            statistics=statistics if postings else None,
            counts=self._counts(found, postings) if postings else None,
        )

    def _postings(self, terms: Mapping[int, int]) -> dict[int, slice]:
        wanted = np.fromiter(terms, dtype=np.int64, count=len(terms))
        at = np.searchsorted(self.terms, wanted)
        return {
            term: slice(int(self.spans[place]), int(self.spans[place + 1]))
            for term, place in zip(wanted.tolist(), at.tolist(), strict=True)
            if place < len(self.terms) and self.terms[place] == term
        }

    def _counts(self, found: Sequence[int], postings: Mapping[int, slice]) -> TermCounts:
        wanted = np.array(found, dtype=np.int64)
        weights = np.zeros((len(found), len(postings)), dtype=np.float32)
        for column, span in enumerate(postings.values()):
            posted = self.rows[span]
            at = np.minimum(np.searchsorted(posted, wanted), len(posted) - 1)
            weights[:, column] = np.where(posted[at] == wanted, self.weights[span][at], 0.0)
        lengths = self.lengths[wanted]
        places = {self.chunks[row].id: place for place, row in enumerate(found)}
        frequencies = bm25.counts_of_weights(weights, lengths, self.pinned_length)
        return TermCounts(list(postings), places, frequencies, lengths)


class HotIndex:
    """A `VectorIndex` that answers from memory where it can."""

    def __init__(self, cold: VectorIndex, database: Database, *, max_bytes: int) -> None:
        self._cold = cold
        self._database = database
        self._max_bytes = max_bytes
        self._hot: OrderedDict[TenantId, HotCorpus] = OrderedDict()
        self._sizes: dict[TenantId, int] = {}
        self._loading: dict[TenantId, asyncio.Task[None]] = {}
        self._one_load = asyncio.Semaphore(1)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory now."""
        return sum(self._sizes.values())

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        """Return both lists from memory, else from the index behind."""
        corpus = self._hot.get(tenant_id)
        if corpus is None or corpus.version != query.corpus_version:
            self._warm(tenant_id)
            return await self._cold.search(tenant_id, query, limit=limit, deadline=deadline)
        self._hot.move_to_end(tenant_id)
        if len(corpus.chunks) >= _THREAD_ROWS:
            return await asyncio.to_thread(corpus.search, query, limit)
        return corpus.search(query, limit)

    async def settled(self) -> None:
        """Wait until what is being loaded is loaded."""
        await asyncio.gather(*self._loading.values())

    async def close(self) -> None:
        """Stop loading and let go of everything."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hot.clear()
        self._sizes.clear()

    def _warm(self, tenant_id: TenantId) -> None:
        if self._max_bytes and tenant_id not in self._loading:
            # A context of its own: the tenant of the question is not this task's to inherit.
            task = asyncio.create_task(self._load(tenant_id), name="hot index", context=Context())
            self._loading[tenant_id] = task
            task.add_done_callback(lambda _: self._loading.pop(tenant_id, None))

    async def _load(self, tenant_id: TenantId) -> None:
        try:
            async with self._one_load:
                rows = await self._database.call(
                    tenant_id, _LOAD, deadline=Deadline.after(_LOAD_SECONDS)
                )
                corpus = await asyncio.to_thread(pack, rows) if rows else None
        except CopilotError as error:
            LOG.warning("a corpus stays cold: %s", error.code)
            return
        if corpus is not None:
            self._keep(tenant_id, corpus)

    def _keep(self, tenant_id: TenantId, corpus: HotCorpus) -> None:
        size = corpus.nbytes
        if size > self._max_bytes:
            return  # larger than all the room there is: the index behind serves it
        self._hot[tenant_id], self._sizes[tenant_id] = corpus, size
        self._hot.move_to_end(tenant_id)
        while self.nbytes > self._max_bytes:
            oldest, _ = self._hot.popitem(last=False)
            del self._sizes[oldest]


def pack(rows: Sequence[Row]) -> HotCorpus:
    """Return the corpus in the rows of `load_corpus`; there must be one or more."""
    sparse = [decode_sparse_arrays(row["sparse"]) for row in rows]
    terms = np.concatenate([ids for ids, _ in sparse])
    owners = np.repeat(np.arange(len(rows), dtype=np.int32), [len(ids) for ids, _ in sparse])
    order = np.argsort(terms, kind="stable")
    known, starts = np.unique(terms[order], return_index=True)
    return HotCorpus(
        version=rows[0]["corpus_version"],
        pinned_length=rows[0]["pinned_length"],
        chunks=[chunk_of(row) for row in rows],
        vectors=np.stack([decode_dense(row["dense"]) for row in rows]),
        lengths=np.array([row["length"] for row in rows], dtype=np.float32),
        terms=known,
        spans=np.append(starts, len(terms)).astype(np.int64),
        rows=owners[order],
        weights=np.concatenate([weights for _, weights in sparse])[order],
    )


def _best(scores: Floats, limit: int, *, floor: float) -> list[tuple[int, float]]:
    count = min(limit, len(scores))
    rows = np.argpartition(-scores, count - 1)[:count]
    if count < len(scores):
        # Rows as good as the last one taken compete for its place by their order.
        lowest = scores[rows].min()
        rows = np.concatenate([np.flatnonzero(scores > lowest), np.flatnonzero(scores == lowest)])
        rows = rows[:count] if len(rows) > count else rows
    rows = rows[np.lexsort((rows, -scores[rows]))]
    return [(row, score) for row, score in _pairs(rows, scores) if score > floor]


def _pairs(rows: NDArray[np.int64], scores: Floats) -> Iterable[tuple[int, float]]:
    return zip(rows.tolist(), scores[rows].tolist(), strict=True)
