"""The default index: exact search in the tenant's own rows, dense and BM25 in one statement."""

from uuid import UUID

import orjson

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import RetrievalUnavailable, StoreUnavailable
from compliance_copilot.core.vocabulary import Chunk, TenantId
from compliance_copilot.rag.ports import HybridQuery, RankedLists
from compliance_copilot.storage.database import Database, Row
from compliance_copilot.storage.vectors import encode_dense

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
        return RankedLists(
            dense=_ranked(rows, "dense_score"),
            sparse=_ranked(rows, "sparse_score"),
            chunks={row["id"]: _chunk(row) for row in rows},
        )


def _ranked(rows: list[Row], column: str) -> list[tuple[UUID, float]]:
    scored = [(row["id"], row[column]) for row in rows if row[column] is not None]
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))


def _chunk(row: Row) -> Chunk:
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
