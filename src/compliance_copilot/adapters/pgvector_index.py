"""The default index: exact search in the tenant's own rows, dense and BM25 in one statement."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
import orjson

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import RetrievalUnavailable, StoreUnavailable
from compliance_copilot.core.vocabulary import Chunk, TenantId
from compliance_copilot.rag.ports import HybridQuery, RankedLists
from compliance_copilot.rag.ranking import TermCounts, TermStatistics, counted_from_weights
from compliance_copilot.storage.database import Database, Row
from compliance_copilot.storage.vectors import decode_sparse_arrays, encode_dense

_SEARCH = "SELECT * FROM search_chunks($1, $2, $3, $4, $5)"


class PgvectorIndex:
    """Searches `chunk_vectors`; the vectors are written with their documents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        """Return both ranked lists over the versions in force now: one round trip."""
        try:
            rows = await self._database.call(
                tenant_id,
                _SEARCH,
                encode_dense(query.dense),
                list(query.terms.keys()),
                [float(count) for count in query.terms.values()],
                limit,
                deadline=deadline,
            )
        except StoreUnavailable as error:
            raise RetrievalUnavailable(
                "The documents cannot be searched now.", **error.facts
            ) from error
        statistics = _statistics(rows)
        return RankedLists(
            dense=_ranked(rows, "dense_score"),
            sparse=_ranked(rows, "sparse_score"),
            chunks={row["id"]: chunk_of(row) for row in rows},
            statistics=statistics,
            counts=_counts(rows, statistics) if statistics else None,
        )


def _ranked(rows: Sequence[Row], column: str) -> list[tuple[UUID, float]]:
    scored = [(row["id"], row[column]) for row in rows if row[column] is not None]
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))


def _statistics(rows: Sequence[Row]) -> TermStatistics | None:
    if not rows or not rows[0]["known_terms"]:
        return None
    first = rows[0]
    frequencies = dict(zip(first["known_terms"], first["frequencies"], strict=True))
    return TermStatistics(frequencies, first["chunk_count"], first["pinned_length"])


def _counts(rows: Sequence[Row], statistics: TermStatistics) -> TermCounts:
    stored = []
    for row in rows:
        ids, weights = decode_sparse_arrays(row["sparse"])
        stored.append((ids, weights.astype(np.float32)))
    return counted_from_weights(
        [row["id"] for row in rows],
        stored,
        [row["length"] for row in rows],
        list(statistics.document_frequencies),
        statistics.average_length,
    )


def chunk_of(row: Row) -> Chunk:
    """Return the chunk in a row of `search_chunks` or `load_corpus`."""
    headings = tuple(row["headings"])
    return Chunk(
        id=row["id"],
        document_id=row["document_id"],
        version=row["version"],
        ordinal=row["ordinal"],
        start=row["start_offset"],
        end=row["end_offset"],
        text=row["text"],
        title=row["title"],
        section=headings[-1] if headings else None,
        page=row["page"],
        metadata=orjson.loads(row["metadata"]),
        headings=headings,
    )
