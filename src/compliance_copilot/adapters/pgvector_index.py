"""The default index: exact search in the tenant's own rows, dense and BM25 in one statement."""

from collections.abc import Sequence
from operator import itemgetter
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from compliance_copilot.adapters.filter_forms import sql_filter
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import RetrievalUnavailable, StoreUnavailable
from compliance_copilot.core.vocabulary import Chunk, TenantId
from compliance_copilot.rag.contenders import Place
from compliance_copilot.rag.ports import HybridQuery, RankedLists
from compliance_copilot.rag.reading import Reading
from compliance_copilot.rag.scoring import (
    MARGIN,
    SPARE_CHUNKS,
    StoredChunks,
    ranked_lists,
    statistics_of,
)
from compliance_copilot.storage.database import Database, Row
from compliance_copilot.storage.vectors import decode_dense, decode_sparse_arrays, encode_dense

_SEARCH = "SELECT * FROM search_chunks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
_STORED = "SELECT * FROM stored_chunks($1, $2, $3, $4, $5, $6)"


class PgvectorIndex:
    """Searches `chunk_vectors`; the vectors are written with their documents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        """Return both ranked lists over the versions in force: one round trip."""
        try:
            rows = await self._database.call(
                tenant_id,
                _SEARCH,
                encode_dense(query.dense),
                list(query.terms.keys()),
                [float(count) for count in query.terms.values()],
                limit,
                SPARE_CHUNKS,
                MARGIN,
                query.as_of,
                _filter_of(query),
                query.embedder,
                deadline=deadline,
            )
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        return ranked_lists(query, _stored(rows), limit=limit, path="sql")

    async def score(
        self,
        tenant_id: TenantId,
        query: HybridQuery,
        chunk_ids: Sequence[UUID],
        *,
        limit: int,
        deadline: Deadline,
        path: str = "sql",
    ) -> RankedLists:
        """Return both ranked lists over chunks that `path` nominated: one round trip."""
        try:
            rows = await self._database.call(
                tenant_id,
                _STORED,
                list(chunk_ids),
                list(query.terms.keys()),
                query.as_of,
                _filter_of(query),
                query.embedder,
                deadline=deadline,
            )
        except StoreUnavailable as error:
            raise _unavailable(error) from error
        return ranked_lists(query, _stored(rows), limit=limit, path=path)


def _unavailable(error: StoreUnavailable) -> RetrievalUnavailable:
    return RetrievalUnavailable("The documents cannot be searched now.", **error.facts)


def _filter_of(query: HybridQuery) -> str | None:
    return None if query.filters is None else orjson.dumps(sql_filter(query.filters)).decode()


def _stored(found: Sequence[Row]) -> StoredChunks:
    first = found[0] if found else None
    rows = sorted(found, key=itemgetter("id"))
    terms, frequencies = (first["known_terms"], first["frequencies"]) if first else ((), ())
    statistics = statistics_of(
        dict(zip(terms or (), frequencies or (), strict=True)),
        first["chunk_count"] if first else 0,
        first["pinned_length"] if first else 1.0,
    )
    known = list(statistics.document_frequencies)
    return StoredChunks(
        ids=[row["id"] for row in rows],
        chunks={row["id"]: chunk_of(row) for row in rows},
        places=[Place(row["document_id"], row["ordinal"]) for row in rows],
        dense=_dense(rows),
        weights=_weights(rows, known),
        lengths=np.array([row["length"] for row in rows], dtype=np.float32),
        statistics=statistics,
    )


def _dense(rows: Sequence[Row]) -> NDArray[np.float32]:
    vectors = [decode_dense(row["dense"]) for row in rows]
    return np.stack(vectors) if vectors else np.zeros((0, 1), dtype=np.float32)


def _weights(rows: Sequence[Row], terms: Sequence[int]) -> NDArray[np.float32]:
    wanted = np.array(terms, dtype=np.int64)
    found = np.zeros((len(rows), len(wanted)), dtype=np.float32)
    for number, row in enumerate(rows):
        ids, weights = decode_sparse_arrays(row["sparse"]) if terms else (wanted, wanted)
        if len(ids):
            at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
            found[number] = np.where(ids[at] == wanted, weights[at], 0.0)
    return found


def chunk_of(row: Row) -> Chunk:
    """Return the chunk in a row of `search_chunks` or `load_corpus`."""
    headings = tuple(row["headings"])
    section = headings[-1] if headings else None
    return Chunk(
        id=row["id"],
        document_id=row["document_id"],
        version=row["version"],
        ordinal=row["ordinal"],
        start=row["start_offset"],
        end=row["end_offset"],
        text=row["text"],
        title=row["title"],
        section=section,
        page=row["page"],
        metadata=orjson.loads(row["metadata"]),
        headings=headings,
        reading=Reading(row["text"], row["title"], section, headings),
    )
