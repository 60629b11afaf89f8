"""Moving a corpus to another embedder or vector store, while its questions go on.

New vectors are staged here, then written into a namespace of their own, and one transaction puts
both to use: until then every question sees the old ones, afterwards the new ones. What is done
stays done, so a killed run goes on where it was. Must not enter: SDKs, prices.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.ports import Vectors
from compliance_copilot.rag.replication import OWN, Replication, record_of
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.storage.vectors import encode_dense

Embed = Callable[[TenantId, Sequence[str]], Awaitable[Vectors]]
Told = Callable[[str, int, int], None]
"""Called with what is being done, how many chunks are done, and of how many."""

_BATCH = 256
_STEP_SECONDS = 300.0
_ATTEMPTS = 3
_CORPUS = """
    SELECT k.vector_store, k.embedder, k.namespace, k.version,
           (SELECT count(*) FROM chunk_vectors v WHERE v.tenant_id = $1) AS chunks,
           (SELECT count(*) FROM staged_vectors s WHERE s.tenant_id = $1 AND s.embedder = $2)
               AS staged
    FROM corpora k WHERE k.tenant_id = $1
"""
_UNSTAGED = """
    SELECT c.id, c.text FROM chunks c
    JOIN chunk_vectors v ON v.tenant_id = c.tenant_id AND v.chunk_id = c.id
    WHERE c.tenant_id = $1 AND NOT EXISTS (
        SELECT FROM staged_vectors s
        WHERE s.tenant_id = $1 AND s.embedder = $2 AND s.chunk_id = c.id)
    ORDER BY c.id LIMIT $3
"""
_STAGE = """
    INSERT INTO staged_vectors (tenant_id, embedder, chunk_id, dense)
    SELECT $1, $2, u.id, u.dense FROM unnest($3::uuid[], $4::halfvec[]) AS u (id, dense)
    WHERE EXISTS (SELECT FROM chunks c WHERE c.tenant_id = $1 AND c.id = u.id)
    ON CONFLICT DO NOTHING
"""
_RECORDS = """
    SELECT r.chunk_id, coalesce(s.dense, r.dense) AS dense, r.sparse, r.effective_from,
           r.effective_until, r.document_id, r.version_from, r.created_at, r.metadata
    FROM vector_records r
    LEFT JOIN staged_vectors s ON s.tenant_id = $1 AND s.embedder = $2 AND s.chunk_id = r.chunk_id
    WHERE r.tenant_id = $1 AND ($3::uuid IS NULL OR r.chunk_id > $3)
    ORDER BY r.chunk_id LIMIT $4
"""
_USE_STAGED = """
    UPDATE chunk_vectors v SET dense = s.dense FROM staged_vectors s
    WHERE v.tenant_id = $1 AND s.tenant_id = $1 AND s.embedder = $2 AND s.chunk_id = v.chunk_id
"""
_MOVE = """
    UPDATE corpora SET vector_store = $2, embedder = $3, namespace = $4, version = version + 1
    WHERE tenant_id = $1
"""
# A namespace under way is nobody's yet: a run that is killed leaves it to be dropped.
_HOLD_NAMESPACE = """
    INSERT INTO retired_namespaces (namespace, vector_store, due_at)
    VALUES ($1, $2, now() + interval '1 hour')
    ON CONFLICT (namespace) DO UPDATE SET due_at = excluded.due_at
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a corpus is to be: made by which embedder, searched by whom."""

    embedder: str
    store: str


async def refuse_elsewhere(database: Database, target: Target) -> None:
    """Raise SetupError, with the command that helps, when a corpus is not where it should be."""
    rows = await database.call_platform("SELECT * FROM corpora_by_place()")
    others = [
        row
        for row in rows
        if (row["embedder"], row["vector_store"]) != (target.embedder, target.store)
    ]
    if others:
        first, count = others[0], sum(row["corpora"] for row in others)
        raise SetupError(
            f"EMBEDDING_PROVIDER, VECTOR_STORE: the vectors of {count} tenants are by"
            f" {first['embedder']} in {first['vector_store']}, the settings say {target.embedder}"
            f" in {target.store}; run `compliance-copilot reindex`, or set them back."
        )


class Reindexing:
    """Moves corpora to the embedder and the store that are configured, one tenant at a time."""

    def __init__(self, database: Database, replication: Replication, embedder: str) -> None:
        self._database = database
        self._replication = replication
        self._target = Target(embedder, replication.store)

    async def move(self, tenant_id: TenantId, embed: Embed, told: Told) -> bool:
        """Move one tenant's corpus; False when it is there already.

        Raises what the embedder and the stores raise; calling again goes on from there.
        """
        corpus = await self._corpus(tenant_id)
        if corpus is None or self._arrived(corpus):
            return False
        for attempt in range(_ATTEMPTS):
            # The last attempt holds the corpus while it copies: ingests of this tenant wait.
            patient = attempt < _ATTEMPTS - 1
            await self._stage(tenant_id, embed, told)
            if await self._copy_and_switch(tenant_id, told, patient=patient):
                await self._replication.drop_retired()
                return True
        return False

    def _arrived(self, corpus: Row) -> bool:
        if corpus["chunks"] == 0:
            return True  # the next ingest takes whatever is configured
        return (corpus["embedder"], corpus["vector_store"]) == (
            self._target.embedder,
            self._target.store,
        )

    async def _corpus(self, tenant_id: TenantId) -> Row | None:
        async with self._database.transaction(tenant_id) as connection:
            return await connection.fetchrow(_CORPUS, tenant_id, self._target.embedder)

    async def _stage(self, tenant_id: TenantId, embed: Embed, told: Told) -> None:
        corpus = await self._corpus(tenant_id)
        if corpus is None or corpus["embedder"] == self._target.embedder:
            return
        done = corpus["staged"]
        while True:
            async with self._database.transaction(tenant_id) as connection:
                rows = await connection.fetch(_UNSTAGED, tenant_id, self._target.embedder, _BATCH)
            if not rows:
                return
            vectors = await embed(tenant_id, [row["text"] for row in rows])
            ids = [row["id"] for row in rows]
            wires = [encode_dense(vector) for vector in vectors]
            async with self._database.transaction(tenant_id) as connection:
                await connection.execute(_STAGE, tenant_id, self._target.embedder, ids, wires)
            done += len(rows)
            told("embedding", done, max(done, corpus["chunks"]))

    async def _copy_and_switch(self, tenant_id: TenantId, told: Told, *, patient: bool) -> bool:
        """Copy to a new namespace and put all to use; False when the corpus moved meanwhile."""
        seen = await self._corpus(tenant_id)
        if seen is None:
            return False
        namespace = None if self._target.store == OWN else uuid4().hex
        if patient and namespace is not None:
            async with self._database.transaction(tenant_id) as connection:
                await self._copy(connection, tenant_id, namespace, told)
        deadline = Deadline.after(_STEP_SECONDS)
        async with self._locked(tenant_id, deadline) as connection:
            now = await connection.fetchrow(_CORPUS, tenant_id, self._target.embedder)
            unstaged = await connection.fetch(_UNSTAGED, tenant_id, self._target.embedder, 1)
            if now["embedder"] != self._target.embedder and unstaged:
                return False
            if patient and now["version"] != seen["version"]:
                return False
            if not patient and namespace is not None:
                await self._copy(connection, tenant_id, namespace, told)
            await self._switch(connection, tenant_id, namespace)
        return True

    @asynccontextmanager
    async def _locked(self, tenant_id: TenantId, deadline: Deadline) -> AsyncIterator[Connection]:
        async with self._database.transaction(tenant_id, deadline=deadline) as connection:
            await connection.execute(
                "SELECT FROM corpora WHERE tenant_id = $1 FOR UPDATE", tenant_id
            )
            yield connection

    async def _copy(
        self, connection: Connection, tenant_id: TenantId, namespace: str, told: Told
    ) -> None:
        after, done = None, 0
        total = (await connection.fetchrow(_CORPUS, tenant_id, self._target.embedder))["chunks"]
        while True:
            await self._database.call_platform(_HOLD_NAMESPACE, namespace, self._target.store)
            wanted = (tenant_id, self._target.embedder, after, _BATCH)
            rows = await connection.fetch(_RECORDS, *wanted)
            if not rows:
                return
            records = [record_of(row) for row in rows]
            deadline = Deadline.after(_STEP_SECONDS)
            await self._replication.write_into(namespace, records, deadline=deadline)
            after, done = rows[-1]["chunk_id"], done + len(rows)
            told("writing", done, max(done, total))

    async def _switch(
        self, connection: Connection, tenant_id: TenantId, namespace: str | None
    ) -> None:
        target = self._target
        await connection.execute(_USE_STAGED, tenant_id, target.embedder)
        await connection.execute(_MOVE, tenant_id, target.store, target.embedder, namespace)
        await connection.execute("DELETE FROM staged_vectors WHERE tenant_id = $1", tenant_id)
        # Marks are about the namespace that is left; the new one has been written from the rows.
        await connection.execute("DELETE FROM vector_outbox WHERE tenant_id = $1", tenant_id)
        await connection.execute("DELETE FROM retired_namespaces WHERE namespace = $1", namespace)
