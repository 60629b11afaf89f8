"""A hosted store's copy of the vectors, kept the same as the rows here, which stay the truth.

New vectors are announced, then written there, then the transaction here makes them current. What
changes later is marked by triggers in the transaction that changes it and brought over afterwards;
what a killed process left is found by the marks. `routines/6_vector_stores.sql` has the SQL.
Without a hosted store (`copy` None) only the claim on the corpus is left. Must not enter: SDKs.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

import orjson

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError, RetrievalUnavailable
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.filters import Facts
from compliance_copilot.rag.ports import Vectors
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.storage.vectors import decode_dense, decode_sparse

LOG = logging.getLogger(__name__)
OWN = "pgvector"
SWEEP_SECONDS = 5.0
_LEASE_MARGIN_SECONDS = 10.0
_CLAIM = 500
_FLUSH_SECONDS = 30.0

_ANNOUNCE = "SELECT * FROM announce_vectors($1, $2, $3, $4, $5, $6)"
_ADOPT = "SELECT adopt_place($1, $2, $3, $4)"
_CLAIM_DUE = "SELECT * FROM claim_vectors($1, $2)"
_FINISH = "SELECT finish_vectors($1, $2, $3) AS again"
_TAKE_BACK = """
    DELETE FROM vector_outbox
    WHERE tenant_id = $1 AND chunk_id = ANY ($2) AND due_at = $3 RETURNING chunk_id
"""
_WRITTEN = "DELETE FROM vector_outbox WHERE tenant_id = $1 AND chunk_id = ANY ($2)"


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """One chunk as a hosted store keeps it. `effective_until` None: in force until further."""

    chunk_id: UUID
    dense: Vectors
    sparse: Mapping[int, float]
    facts: Facts
    effective_from: datetime
    effective_until: datetime | None = None


class VectorCopy(Protocol):
    """A hosted store, seen by who writes into it. Every call raises RetrievalUnavailable."""

    @property
    def name(self) -> str:
        """Name the store and the index in it, e.g. `pinecone:compliance-copilot`."""
        ...

    async def upsert(
        self, namespace: str, records: Sequence[VectorRecord], *, deadline: Deadline
    ) -> None:
        """Write records; one that is there is replaced."""
        ...

    async def delete(self, namespace: str, ids: Sequence[UUID], *, deadline: Deadline) -> None:
        """Remove records; one that is not there is no error."""
        ...

    async def drop(self, namespace: str, *, deadline: Deadline) -> None:
        """Remove a namespace with all that is in it; one that is not there is no error."""
        ...


@dataclass(frozen=True, slots=True)
class Announced:
    """What an ingest has told that it will write: where, when, until when its marks wait."""

    namespace: str
    pinned_length: float
    at: datetime
    due_at: datetime


class Replication:
    """Keeps the copy of every tenant's vectors."""

    def __init__(
        self,
        database: Database,
        copy: VectorCopy | None = None,
        *,
        left: VectorCopy | None = None,
    ) -> None:
        """`left`: a store that is not in use any more, and may still have namespaces to drop."""
        self._database = database
        self._copy = copy
        self._left = left

    @property
    def store(self) -> str:
        """Name of the store that is configured."""
        return OWN if self._copy is None else self._copy.name

    async def announce(
        self, tenant_id: TenantId, ids: Sequence[UUID], embedder: str, *, deadline: Deadline
    ) -> Announced | None:
        """Mark chunks that are about to be written; None when nothing is written elsewhere.

        Raises RetrievalUnavailable when the corpus is of another store or embedder.
        """
        if self._copy is None or not ids:
            return None
        lease = deadline.remaining_seconds() + _LEASE_MARGIN_SECONDS
        wanted = (list(ids), self._copy.name, embedder, uuid4().hex, lease)
        (row,) = await self._database.call(tenant_id, _ANNOUNCE, *wanted, deadline=deadline)
        refuse_other_place(row, store=self.store, embedder=embedder)
        return Announced(row["namespace"], row["pinned_length"], row["at"], row["due_at"])

    async def write(
        self, announced: Announced, records: Sequence[VectorRecord], *, deadline: Deadline
    ) -> None:
        """Write announced vectors; nobody sees them before the rows here are committed."""
        await self.write_into(announced.namespace, records, deadline=deadline)

    async def write_into(
        self, namespace: str, records: Sequence[VectorRecord], *, deadline: Deadline
    ) -> None:
        """Write records into a namespace that no corpus uses yet."""
        if self._copy is not None:
            await self._copy.upsert(namespace, records, deadline=deadline)

    async def flush(self, tenant_id: TenantId, *, deadline: Deadline | None = None) -> int:
        """Bring over what is marked and due; return how many chunks. Quick when nothing is.

        A failure is left to the sweep: the marks stay.
        """
        if self._copy is None:
            return 0
        try:
            return await self._flush(tenant_id, deadline or Deadline.after(_FLUSH_SECONDS))
        except CopilotError as error:
            LOG.warning("%s: vectors are brought over later", error.code)
            return 0

    async def sweep(self) -> int:
        """Bring over what is due of all tenants and drop namespaces that are nobody's."""
        if self._copy is None:
            return await self.drop_retired()
        done = 0
        for row in await self._database.call_platform("SELECT * FROM tenants_with_due_vectors()"):
            tenant_id = TenantId(row["tenant_id"])
            done += await self._flush(tenant_id, Deadline.after(_FLUSH_SECONDS))
        return done + await self.drop_retired()

    async def drop_retired(self) -> int:
        """Drop namespaces that belong to no corpus; return how many."""
        copy = self._copy or self._left
        if copy is None:
            return 0
        rows = await self._database.call_platform(
            "SELECT namespace FROM retired_namespaces"
            " WHERE vector_store = $1 AND due_at <= now() ORDER BY namespace",
            copy.name,
        )
        for row in rows:
            await copy.drop(row["namespace"], deadline=Deadline.after(_FLUSH_SECONDS))
            await self._database.call_platform(
                "DELETE FROM retired_namespaces WHERE namespace = $1", row["namespace"]
            )
        return len(rows)

    async def _flush(self, tenant_id: TenantId, deadline: Deadline) -> int:
        done = 0
        while True:
            rows = await self._database.call(tenant_id, _CLAIM_DUE, _CLAIM, deadline=deadline)
            if not rows:
                return done
            await self._bring_over(rows, deadline)
            ids = [row["chunk_id"] for row in rows]
            claims = [row["due_at"] for row in rows]
            await self._database.call(tenant_id, _FINISH, ids, claims, deadline=deadline)
            done += len(rows)

    async def _bring_over(self, rows: Sequence[Row], deadline: Deadline) -> None:
        namespace = rows[0]["namespace"]
        if self._copy is None or namespace is None:
            return  # the corpus has left the store: its namespace goes as a whole
        kept = [record_of(row) for row in rows if row["dense"] is not None]
        gone = [row["chunk_id"] for row in rows if row["dense"] is None]
        if kept:
            await self._copy.upsert(namespace, kept, deadline=deadline)
        if gone:
            await self._copy.delete(namespace, gone, deadline=deadline)


def refuse_other_place(corpus: Row, *, store: str, embedder: str) -> None:
    """Raise RetrievalUnavailable when a corpus is not of this store and this embedder."""
    if corpus["vector_store"] == store and corpus["embedder"] in (None, embedder):
        return
    raise RetrievalUnavailable(
        "These documents are being moved to another embedder or vector store.",
        reason="reindex",
        retry_after_seconds=60,
    )


async def require_place(
    connection: Connection, tenant_id: TenantId, corpus: Row, *, store: str, embedder: str
) -> None:
    """Let an empty corpus be of this store and embedder; refuse one that is of others."""
    if corpus["vector_store"] == store and corpus["embedder"] in (None, embedder):
        return
    namespace = None if store == OWN else uuid4().hex
    await connection.execute(_ADOPT, tenant_id, store, embedder, namespace)
    corpus = await connection.fetchrow("SELECT * FROM corpora WHERE tenant_id = $1", tenant_id)
    refuse_other_place(corpus, store=store, embedder=embedder)


async def take_back(
    connection: Connection, tenant_id: TenantId, announced: Announced, ids: Sequence[UUID]
) -> list[UUID]:
    """Take back the marks of vectors that are written; return those that were still ours."""
    rows = await connection.fetch(_TAKE_BACK, tenant_id, list(ids), announced.due_at)
    return [row["chunk_id"] for row in rows]


async def note_written(connection: Connection, tenant_id: TenantId, ids: Sequence[UUID]) -> None:
    """Take away the marks that inserting has made of vectors that are there already."""
    await connection.execute(_WRITTEN, tenant_id, list(ids))


def record_of(row: Row) -> VectorRecord:
    """Return the record in a row of `vector_records`."""
    until = row["effective_until"]
    return VectorRecord(
        chunk_id=row["chunk_id"],
        dense=decode_dense(row["dense"]),
        sparse=decode_sparse(row["sparse"]),
        facts=Facts(
            row["document_id"],
            row["version_from"],
            row["created_at"],
            orjson.loads(row["metadata"]),
        ),
        effective_from=row["effective_from"],
        effective_until=None if until.year == _INFINITY_YEAR else until,
    )


_INFINITY_YEAR = 9999  # asyncpg gives datetime.max for 'infinity'


@asynccontextmanager
async def replicating(
    replication: Replication, *, every_seconds: float = SWEEP_SECONDS
) -> AsyncIterator[None]:
    """Sweep while the context lasts."""
    task = asyncio.create_task(_for_ever(replication, every_seconds), name="replicate")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _for_ever(replication: Replication, every_seconds: float) -> None:
    while True:
        try:
            if done := await replication.sweep():
                LOG.info("%d vectors and namespaces brought over", done)
        except CopilotError as error:
            LOG.warning("put off: %s", error.code)
        await asyncio.sleep(every_seconds)
