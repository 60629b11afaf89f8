"""Storing documents: new versions, their chunks and vectors and the statistics, all or nothing.

The corpus row of the tenant is locked first, so ingests of one tenant follow one another and
those of different tenants do not meet. Everything below it is in the same transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import orjson

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import IngestedDocument, TenantId
from compliance_copilot.rag import replication
from compliance_copilot.rag.columns import (
    PreparedDocument,
    chunk_columns,
    sliced,
    vector_columns,
)
from compliance_copilot.rag.quotas import Quotas, Stock, check_quotas
from compliance_copilot.rag.replication import Announced
from compliance_copilot.rag.statistics import (
    Corpus,
    Counted,
    Step,
    counted,
    move,
    open_corpus,
    reweigh,
)
from compliance_copilot.rag.terms import joined
from compliance_copilot.rag.versions import note_sources, present, put_in_order, unchanged
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row

_UPSERT_DOCUMENTS = """
    INSERT INTO documents AS d (tenant_id, document_id, title, metadata, current_version)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::integer[])
    ON CONFLICT (tenant_id, document_id) DO UPDATE SET updated_at = now()
"""
_INSERT_VERSIONS = """
    INSERT INTO document_versions (tenant_id, document_id, title, metadata, version, text,
                                   content_hash, text_hash, language, chunks, effective_from)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::integer[], $6::text[],
                             $7::bytea[], $8::bytea[], $9::text[], $10::integer[],
                             $11::timestamptz[])
"""
_INSERT_CHUNKS = """
    INSERT INTO chunks (tenant_id, id, document_id, version, ordinal, start_offset, end_offset,
                        headings, page, text)
    SELECT $1, u.id, u.document_id, u.version, u.ordinal, u.start_offset, u.end_offset,
           ARRAY(SELECT jsonb_array_elements_text(u.headings)), u.page, u.text
    FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::integer[],
                $7::integer[], $8::jsonb[], $9::integer[], $10::text[])
         AS u (id, document_id, version, ordinal, start_offset, end_offset, headings, page, text)
"""
_INSERT_VECTORS = """
    INSERT INTO chunk_vectors (tenant_id, chunk_id, dense, sparse, length, effective_from,
                               effective_until)
    SELECT $1, * FROM unnest($2::uuid[], $3::halfvec[], $4::sparsevec[], $5::integer[],
                             $6::timestamptz[], $7::timestamptz[])
"""
_IN_FORCE = """
    SELECT document_id, version, effective_from, effective_until FROM document_versions
    WHERE tenant_id = $1 AND document_id = ANY ($2)
"""
# A hosted store was told that these hold until further.
_OPEN_ENDED = """
    SELECT chunk_id FROM chunk_vectors
    WHERE tenant_id = $1 AND chunk_id = ANY ($2) AND effective_until = 'infinity'
"""

Pause: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What one ingest stores: in order, with what the tenant is allowed."""

    documents: Sequence[PreparedDocument]
    embedder: str
    quotas: Quotas
    store: str = replication.OWN
    announced: Announced | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    created: bool


async def store(
    database: Database,
    tenant_id: TenantId,
    request: StoreRequest,
    *,
    deadline: Deadline,
    pause: Pause,
) -> list[IngestedDocument]:
    """Store all documents of a request, or none; `pause` is awaited before each statement.

    Raises LimitReached, UnknownTenant.
    """
    async with database.transaction(tenant_id, deadline=deadline) as connection:
        corpus = await open_corpus(connection, tenant_id)
        return await _Storing(connection, corpus, request, pause).run()


class _Storing:
    """One transaction's worth of storing, in a corpus that is open."""

    def __init__(
        self, connection: Connection, corpus: Corpus, request: StoreRequest, pause: Pause
    ) -> None:
        self._connection = connection
        self._pause = pause
        self._corpus = corpus
        self._tenant_id = corpus.tenant_id
        self._request = request

    async def run(self) -> list[IngestedDocument]:
        documents = self._request.documents
        wanted = {d.document_id: d.effective_from for d in documents}
        there = await present(self._connection, self._tenant_id, wanted, self._corpus.now)
        # Someone else may have stored the same content since it was looked up.
        changed = [d for d in documents if not _same(there.get(d.document_id), d)]
        versions = {d.document_id: _next_version(there.get(d.document_id)) for d in changed}
        shown: dict[str, int] = {}
        if changed:
            place = {"store": self._request.store, "embedder": self._request.embedder}
            await replication.require_place(
                self._connection, self._tenant_id, self._corpus.row, **place
            )
            check_quotas(self._corpus, self._request.quotas, _growth(changed, versions))
            shown = await self._write(changed, versions)
        await note_sources(
            self._connection, self._tenant_id, {d.document_id: d.source for d in documents}
        )
        if changed:
            entry = AuditEntry("documents.stored", "", {"versions": _numbers(versions)})
            await append(self._connection, self._tenant_id, entry)
        return [
            _outcome(d, versions[d.document_id], shown)
            if d.document_id in versions
            else unchanged(there[d.document_id])
            for d in documents
        ]

    async def _write(
        self, changed: Sequence[PreparedDocument], versions: Mapping[str, _Version]
    ) -> dict[str, int]:
        ids = [d.document_id for d in changed]
        now = self._corpus.now
        for part in sliced(changed, _size):
            await self._write_texts(part, versions)
        moved, shown = await put_in_order(self._connection, self._tenant_id, ids, now)
        growth = _growth(changed, versions)
        step = Step(
            came=_counted(
                [d for d in changed if shown.get(d.document_id) == versions[d.document_id].number]
            ),
            went=counted([row for row in moved if row["went"]]),
            documents=growth.documents,
            text_bytes=growth.text_bytes,
            embedder=self._request.embedder,
        )
        corpus = await reweigh(self._connection, self._corpus, step)
        await self._write_vectors(changed, versions, corpus.pinned_length)
        await move(self._connection, corpus, step)
        return shown

    async def _write_texts(
        self, documents: Sequence[PreparedDocument], versions: Mapping[str, _Version]
    ) -> None:
        common = (
            self._tenant_id,
            [d.document_id for d in documents],
            [d.title for d in documents],
            [orjson.dumps(d.metadata).decode() for d in documents],
            [versions[d.document_id].number for d in documents],
        )
        await self._pause()
        await self._connection.execute(_UPSERT_DOCUMENTS, *common)
        await self._connection.execute(
            _INSERT_VERSIONS,
            *common,
            [d.text for d in documents],
            [d.content_hash for d in documents],
            [d.text_hash for d in documents],
            [d.language for d in documents],
            [len(d.chunk_ids) for d in documents],
            [d.effective_from or self._corpus.now for d in documents],
        )
        numbers = _numbers(versions)
        for columns in await asyncio.to_thread(chunk_columns, documents, numbers):
            await self._pause()
            await self._connection.execute(_INSERT_CHUNKS, self._tenant_id, *columns)

    async def _write_vectors(
        self,
        changed: Sequence[PreparedDocument],
        versions: Mapping[str, _Version],
        pinned: float,
    ) -> None:
        ids = [chunk_id for d in changed for chunk_id in d.chunk_ids]
        written = await self._taken_back(ids, pinned)
        rows = await self._connection.fetch(_IN_FORCE, self._tenant_id, list(versions))
        in_force = {
            row["document_id"]: (row["effective_from"], row["effective_until"])
            for row in rows
            if row["version"] == versions[row["document_id"]].number
        }
        for part in sliced(changed, _size):
            for columns in await asyncio.to_thread(vector_columns, part, in_force, pinned):
                await self._pause()
                await self._connection.execute(_INSERT_VECTORS, self._tenant_id, *columns)
        if written:
            open_ended = await self._connection.fetch(_OPEN_ENDED, self._tenant_id, written)
            ids = [row["chunk_id"] for row in open_ended]
            await replication.note_written(self._connection, self._tenant_id, ids)

    async def _taken_back(self, ids: Sequence[UUID], pinned: float) -> list[UUID]:
        """Return the chunks whose vectors are in the hosted store as they are stored here."""
        announced = self._request.announced
        if announced is None or announced.pinned_length != pinned:
            return []
        return await replication.take_back(self._connection, self._tenant_id, announced, ids)


def _same(row: Row | None, document: PreparedDocument) -> bool:
    return row is not None and row["content_hash"] == document.content_hash


def _numbers(versions: Mapping[str, _Version]) -> dict[str, int]:
    return {document_id: version.number for document_id, version in versions.items()}


def _size(document: PreparedDocument) -> int:
    return len(document.text)


def _counted(documents: Sequence[PreparedDocument]) -> Counted:
    return Counted(
        sum(len(d.terms) for d in documents),
        sum(int(d.terms.counts.sum()) for d in documents),
        joined(d.terms.ids for d in documents),
    )


def _next_version(row: Row | None) -> _Version:
    return (
        _Version(1, created=True)
        if row is None
        else _Version(row["last_version"] + 1, created=False)
    )


def _growth(changed: Sequence[PreparedDocument], versions: Mapping[str, _Version]) -> Stock:
    return Stock(
        sum(version.created for version in versions.values()),
        sum(len(d.text.encode()) for d in changed),
    )


def _outcome(
    document: PreparedDocument, version: _Version, shown: Mapping[str, int]
) -> IngestedDocument:
    return IngestedDocument(
        document.document_id,
        version.number,
        "created" if version.created else "updated",
        len(document.chunk_ids),
        shown.get(document.document_id) == version.number,
    )
