"""The hosted index: Pinecone nominates, the rows here decide.

Both lists are asked for there; visibility, filters and scores are then made from the rows here,
in the one place that makes scores (`rag/scoring.py`). So a vector that is an orphan or stale there
is never shown, and the same question finds the same as in SQL.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np

from compliance_copilot.adapters.filter_forms import pinecone_filter
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.adapters.pinecone_store import FROM, UNTIL, PineconeStore, sparse_values
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import RetrievalUnavailable, StoreUnavailable
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag import bm25
from compliance_copilot.rag.filters import microseconds
from compliance_copilot.rag.ports import HybridQuery, RankedLists
from compliance_copilot.rag.replication import refuse_other_place
from compliance_copilot.storage.database import Database, Row

_PLACE = "SELECT * FROM hosted_search($1, $2)"
_SPARE = 50
"""Nominated beyond the limit: sums there differ in the last digits, and some may be stale."""
_FEWEST, _MOST = 150, 10_000


class PineconeIndex:
    """A `VectorIndex` whose candidates come from Pinecone."""

    def __init__(self, database: Database, store: PineconeStore, rows: PgvectorIndex) -> None:
        self._database = database
        self._store = store
        self._rows = rows

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        """Return both ranked lists: one round trip here, two at once there, one here."""
        place = await self._place(tenant_id, query, deadline)
        asked = place is not None and place["namespace"] is not None and place["chunks"] > 0
        ids = await self._nominated(place, query, limit, deadline) if asked else []
        return await self._rows.score(
            tenant_id, query, ids, limit=limit, deadline=deadline, path="pinecone"
        )

    async def score(
        self,
        tenant_id: TenantId,
        query: HybridQuery,
        chunk_ids: Sequence[UUID],
        *,
        limit: int,
        deadline: Deadline,
    ) -> RankedLists:
        """Return both ranked lists over these chunks, from the rows here."""
        return await self._rows.score(tenant_id, query, chunk_ids, limit=limit, deadline=deadline)

    async def forget(self, tenant_id: TenantId) -> int:
        """Keep nothing of a tenant in this process: there is nothing."""
        del tenant_id
        return 0

    async def _place(
        self, tenant_id: TenantId, query: HybridQuery, deadline: Deadline
    ) -> Row | None:
        try:
            rows = await self._database.call(
                tenant_id, _PLACE, list(query.terms.keys()), deadline=deadline
            )
        except StoreUnavailable as error:
            raise RetrievalUnavailable(
                "The documents cannot be searched now.", **error.facts
            ) from error
        if rows and rows[0]["chunks"]:
            refuse_other_place(rows[0], store=self._store.name, embedder=query.embedder or "")
        return rows[0] if rows else None

    async def _nominated(
        self, place: Row, query: HybridQuery, limit: int, deadline: Deadline
    ) -> list[UUID]:
        shared = {
            "top_k": min(max(limit + _SPARE, _FEWEST), _MOST),
            "namespace": place["namespace"],
            "filter": _condition(place, query),
        }
        questions: list[dict[str, Any]] = [{"vector": query.dense.astype(float).tolist()}]
        weights = _weights(place, query)
        if weights:
            # The vendor wants a dense part beside the sparse one: nothing, so that words decide.
            nothing = np.zeros(len(query.dense)).tolist()
            questions.append({"vector": nothing, "sparse_vector": sparse_values(weights)})
        replies = await asyncio.gather(
            *(self._store.call("query", deadline, **shared, **q) for q in questions)
        )
        return list(dict.fromkeys(UUID(match.id) for reply in replies for match in reply.matches))


def _condition(place: Row, query: HybridQuery) -> dict[str, Any]:
    """Return what a vector must satisfy: in force then, and the question's own filter."""
    at = microseconds(query.as_of or place["at"])
    parts: list[dict[str, Any]] = [{FROM: {"$lte": at}}, {UNTIL: {"$gt": at}}]
    if query.filters is not None:
        parts.append(pinecone_filter(query.filters))
    return {"$and": parts}


def _weights(place: Row, query: HybridQuery) -> dict[int, float]:
    known, frequencies = place["known_terms"] or (), place["frequencies"] or ()
    return bm25.query_weights(
        query.terms, dict(zip(known, frequencies, strict=True)), place["chunks"]
    )
