"""Documents of a tenant as they can be listed, read and deleted."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.mirroring import Difference, Manifest, compare
from compliance_copilot.rag.quotas import Quotas
from compliance_copilot.rag.revising import Revision, revise
from compliance_copilot.rag.statistics import Corpus, Step, counted, move, open_corpus, reweigh
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row

_LIST = """
    SELECT d.document_id, d.title, d.metadata, d.current_version AS version, v.chunks,
           d.created_at, d.updated_at, d.source_path
    FROM documents d
    JOIN document_versions v ON v.tenant_id = d.tenant_id AND v.document_id = d.document_id
                            AND v.version = d.current_version
    WHERE d.tenant_id = $1 AND ($2::text IS NULL OR d.document_id > $2)
      AND ($3::text IS NULL OR d.document_id = $3)
      AND ($5::text IS NULL OR position(lower($5) IN lower(d.title)) > 0)
      AND ($6::text IS NULL OR starts_with(d.source_path, $6))
      AND ($7::jsonb IS NULL OR d.metadata @> $7::jsonb)
      AND ($8::timestamptz IS NULL OR d.updated_at >= $8)
    ORDER BY d.document_id LIMIT $4
"""
_VERSIONS = """
    SELECT version, title, metadata, encode(content_hash, 'hex') AS content_hash, chunks,
           effective_from, nullif(effective_until, 'infinity') AS effective_until, created_at,
           effective_from <= now() AND effective_until > now() AS current
    FROM document_versions WHERE tenant_id = $1 AND document_id = $2 ORDER BY version
"""
_SOURCE_HASHES = """
    SELECT source_path, source_hash FROM documents
    WHERE tenant_id = $1 AND source_path = ANY ($2)
"""
_TEXT = """
    SELECT text FROM document_versions
    WHERE tenant_id = $1 AND document_id = $2 AND version = $3
"""
_IN_FORCE = """
    SELECT v.sparse, v.length
    FROM chunks c JOIN chunk_vectors v ON v.tenant_id = c.tenant_id AND v.chunk_id = c.id
    WHERE c.tenant_id = $1 AND c.document_id = $2
      AND v.effective_from <= $3 AND v.effective_until > $3
"""
_PARTS = """
    SELECT v.version, c.id FROM document_versions v
    LEFT JOIN chunks c USING (tenant_id, document_id, version)
    WHERE v.tenant_id = $1 AND v.document_id = $2
"""
_DELETE = """
    WITH size AS (
        SELECT sum(octet_length(text)) AS bytes FROM document_versions
        WHERE tenant_id = $1 AND document_id = $2)
    DELETE FROM documents d USING size
    WHERE d.tenant_id = $1 AND d.document_id = $2 RETURNING size.bytes
"""

Beginning = Callable[[Connection, list[UUID], int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document with its current version's number."""

    document_id: str
    title: str
    metadata: Mapping[str, Any]
    version: int
    chunks: int
    created_at: datetime
    updated_at: datetime
    source_path: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents are listed: a part of the title, the beginning of the source's path, members
    of the metadata, changed since when. None: any.
    """

    title: str | None = None
    source: str | None = None
    metadata: Mapping[str, Any] | None = None
    updated_since: datetime | None = None

    @property
    def arguments(self) -> tuple[object, ...]:
        """The arguments of the statement, in its order."""
        members = None if self.metadata is None else orjson.dumps(self.metadata).decode()
        return self.title, self.source, members, self.updated_since


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One immutable version."""

    version: int
    title: str
    metadata: Mapping[str, Any]
    content_hash: str
    chunks: int
    effective_from: datetime
    effective_until: datetime | None
    created_at: datetime
    current: bool


class DocumentStore:
    """The documents of all tenants, one tenant at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self,
        tenant_id: TenantId,
        *,
        after: str | None = None,
        limit: int = 100,
        where: DocumentFilter = DocumentFilter(),
    ) -> list[DocumentInfo]:
        """Return a page of documents in the order of their ids."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, after, None, limit, *where.arguments)
        return [_info(row) for row in rows]

    async def source_hashes(
        self, tenant_id: TenantId, paths: Sequence[str]
    ) -> dict[str, bytes | None]:
        """Return the SHA-256 of the bytes that documents were read from, by their paths there."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_SOURCE_HASHES, tenant_id, list(paths))
        return {row["source_path"]: row["source_hash"] for row in rows}

    async def require(self, tenant_id: TenantId, document_id: str) -> DocumentInfo:
        """Return one document. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(
                _LIST, tenant_id, None, document_id, 1, *DocumentFilter().arguments
            )
        if not rows:
            raise _unknown()
        return _info(rows[0])

    async def versions(self, tenant_id: TenantId, document_id: str) -> Sequence[VersionInfo]:
        """Return all versions of a document, oldest first. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_VERSIONS, tenant_id, document_id)
        if not rows:
            raise _unknown()
        return [VersionInfo(**_with_metadata(row)) for row in rows]

    async def text(self, tenant_id: TenantId, document_id: str, version: int) -> str:
        """Return the text of a version, to which all offsets refer. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            text: str | None = await connection.fetchval(_TEXT, tenant_id, document_id, version)
        if text is None:
            raise _unknown()
        return text

    async def revise(
        self, tenant_id: TenantId, document_id: str, revision: Revision, *, quotas: Quotas
    ) -> DocumentInfo:
        """Give a document another title or metadata: its next version.

        Raises NotFound; LimitReached, because the version's text is kept like any other.
        """
        await revise(self._database, tenant_id, document_id, revision, quotas)
        return await self.require(tenant_id, document_id)

    async def compare(self, tenant_id: TenantId, manifest: Manifest) -> Difference:
        """Hold a folder's manifest against what was read from it."""
        return await compare(self._database, tenant_id, manifest)

    async def delete(
        self, tenant_id: TenantId, document_id: str, *, begin: Beginning | None = None
    ) -> None:
        """Remove a document with all its versions, chunks and vectors. Raises NotFound.

        `begin` is called in the same transaction, with the ids of its chunks and the number of its
        versions: an erasure goes on from there.
        """
        async with self._database.transaction(tenant_id) as connection:
            corpus = await open_corpus(connection, tenant_id)
            parts = await connection.fetch(_PARTS, tenant_id, document_id)
            await remove(connection, corpus, document_id)
            if begin is None:
                await append(
                    connection,
                    tenant_id,
                    AuditEntry("document.deleted", f"document:{document_id}"),
                )
            else:
                chunk_ids = [row["id"] for row in parts if row["id"] is not None]
                await begin(connection, chunk_ids, len({row["version"] for row in parts}))


async def remove(connection: Connection, corpus: Corpus, document_id: str) -> None:
    """Take a document out of an open corpus, as if it had never been in. Raises NotFound."""
    rows = await connection.fetch(_IN_FORCE, corpus.tenant_id, document_id, corpus.now)
    size = await connection.fetchval(_DELETE, corpus.tenant_id, document_id)
    if size is None:
        raise _unknown()
    step = Step(went=counted(rows), documents=-1, text_bytes=-size)
    await move(connection, await reweigh(connection, corpus, step), step)


def _unknown() -> NotFound:
    return NotFound("There is no such document or version.", kind="document")


def _info(row: Row) -> DocumentInfo:
    return DocumentInfo(**_with_metadata(row))


def _with_metadata(row: Row) -> dict[str, Any]:
    return {**dict(row), "metadata": orjson.loads(row["metadata"])}
