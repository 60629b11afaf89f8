"""Storing documents: new versions, their chunks and vectors and the statistics, all or nothing.

The corpus row of the tenant is locked first, so ingests of one tenant follow one another and
those of different tenants do not meet. Everything below it is in the same transaction.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import LimitReached
from compliance_copilot.core.vocabulary import IngestedDocument, TenantId
from compliance_copilot.rag import bm25, replication
from compliance_copilot.rag.chunking import Span
from compliance_copilot.rag.ports import Vectors
from compliance_copilot.rag.replication import Announced
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.storage.vectors import decode_sparse, encode_dense, encode_sparse

GRID = math.log(1.05)
"""The pinned average length moves in steps of 5 %."""

_LOCK = "SELECT * FROM corpora WHERE tenant_id = $1 FOR UPDATE"
_CURRENT = """
    SELECT d.document_id, d.current_version, v.content_hash, v.chunks, length(v.text) AS characters
    FROM documents d
    JOIN document_versions v ON v.tenant_id = d.tenant_id AND v.document_id = d.document_id
                            AND v.version = d.current_version
    WHERE d.tenant_id = $1 AND d.document_id = ANY ($2)
"""
_RETIRE = """
    WITH ended AS (
        UPDATE document_versions SET effective_until = now()
        WHERE tenant_id = $1 AND document_id = ANY ($2) AND effective_until = 'infinity'
        RETURNING document_id, version)
    UPDATE chunk_vectors v SET effective_until = now()
    FROM chunks c JOIN ended e ON e.document_id = c.document_id AND e.version = c.version
    WHERE c.tenant_id = $1 AND v.tenant_id = $1 AND v.chunk_id = c.id
    RETURNING v.sparse, v.length
"""
_UPSERT_DOCUMENTS = """
    INSERT INTO documents AS d (tenant_id, document_id, title, metadata, current_version)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::integer[])
    ON CONFLICT (tenant_id, document_id) DO UPDATE
    SET title = excluded.title, metadata = excluded.metadata,
        current_version = excluded.current_version, updated_at = now()
"""
_INSERT_VERSIONS = """
    INSERT INTO document_versions (tenant_id, document_id, title, metadata, version, text,
                                   content_hash, language, chunks)
    SELECT $1, * FROM unnest($2::text[], $3::text[], $4::jsonb[], $5::integer[], $6::text[],
                             $7::bytea[], $8::text[], $9::integer[])
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
    INSERT INTO chunk_vectors (tenant_id, chunk_id, dense, sparse, length, effective_from)
    SELECT $1, u.*, now()
    FROM unnest($2::uuid[], $3::halfvec[], $4::sparsevec[], $5::integer[]) AS u
"""
_ALL_WEIGHTS = "SELECT chunk_id, sparse, length FROM chunk_vectors WHERE tenant_id = $1"
_REWEIGH = """
    UPDATE chunk_vectors v SET sparse = u.sparse
    FROM unnest($2::uuid[], $3::sparsevec[]) AS u (chunk_id, sparse)
    WHERE v.tenant_id = $1 AND v.chunk_id = u.chunk_id
"""
_COUNT_TERMS = "SELECT count_terms($1, $2, $3)"
_MOVE_CORPUS = """
    UPDATE corpora SET version = version + 1, documents = documents + $2,
           text_bytes = text_bytes + $3, chunks = chunks + $4, total_length = total_length + $5,
           pinned_length = $6, embedder = $7
    WHERE tenant_id = $1
"""


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document with everything that can be computed before the transaction."""

    document_id: str
    title: str
    text: str
    metadata: Mapping[str, Any]
    content_hash: bytes
    language: str
    spans: Sequence[Span]
    chunk_ids: Sequence[UUID]
    terms: Sequence[Mapping[int, int]]
    lengths: Sequence[int]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What one ingest stores: in order, with what the tenant is allowed."""

    documents: Sequence[PreparedDocument]
    embedder: str
    max_documents: int | None
    store: str = replication.OWN
    announced: Announced | None = None


@dataclass(frozen=True, slots=True)
class _Version:
    number: int
    created: bool


def pinned_length(total_length: int, chunks: int) -> float:
    """Return the average chunk length, moved to the nearest step of the 5 % grid."""
    if chunks == 0 or total_length == 0:
        return 1.0
    return math.exp(round(math.log(total_length / chunks) / GRID) * GRID)


async def current_hashes(
    database: Database, tenant_id: TenantId, document_ids: Sequence[str]
) -> dict[str, IngestedDocument]:
    """Return, by content hash in hex joined to the id, what is stored now as `unchanged`."""
    async with database.transaction(tenant_id) as connection:
        rows = await connection.fetch(_CURRENT, tenant_id, list(document_ids))
    return {_identity(row["document_id"], row["content_hash"]): _unchanged(row) for row in rows}


def identity(document: PreparedDocument) -> str:
    """Return what tells whether the same content is stored under the same id."""
    return _identity(document.document_id, document.content_hash)


def _identity(document_id: str, content_hash: bytes) -> str:
    return f"{content_hash.hex()} {document_id}"


def _unchanged(row: Row) -> IngestedDocument:
    return IngestedDocument(row["document_id"], row["current_version"], "unchanged", row["chunks"])


async def store(
    database: Database, tenant_id: TenantId, request: StoreRequest, *, deadline: Deadline
) -> list[IngestedDocument]:
    """Store all documents of a request, or none. Raises LimitReached (`max_documents`)."""
    async with database.transaction(tenant_id, deadline=deadline) as connection:
        return await _Storing(connection, tenant_id, request).run()


class _Storing:
    """One transaction's worth of storing."""

    def __init__(self, connection: Connection, tenant_id: TenantId, request: StoreRequest) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._request = request

    async def run(self) -> list[IngestedDocument]:
        corpus = await self._connection.fetchrow(_LOCK, self._tenant_id)
        rows = await self._connection.fetch(
            _CURRENT, self._tenant_id, [d.document_id for d in self._request.documents]
        )
        present = {row["document_id"]: row for row in rows}
        # Someone else may have stored the same content since it was looked up.
        changed = [
            d
            for d in self._request.documents
            if d.document_id not in present
            or present[d.document_id]["content_hash"] != d.content_hash
        ]
        versions = {d.document_id: _next_version(present.get(d.document_id)) for d in changed}
        if changed:
            place = {"store": self._request.store, "embedder": self._request.embedder}
            await replication.require_place(self._connection, self._tenant_id, corpus, **place)
            self._refuse_too_many(corpus, versions)
            await self._write(corpus, changed, versions, present)
            stored = {d.document_id: versions[d.document_id].number for d in changed}
            entry = AuditEntry("documents.stored", "", {"versions": stored})
            await append(self._connection, self._tenant_id, entry)
        return [self._outcome(d, versions, present) for d in self._request.documents]

    def _outcome(
        self,
        document: PreparedDocument,
        versions: Mapping[str, _Version],
        present: Mapping[str, Row],
    ) -> IngestedDocument:
        version = versions.get(document.document_id)
        if version is None:
            return _unchanged(present[document.document_id])
        status = "created" if version.created else "updated"
        return IngestedDocument(
            document.document_id, version.number, status, len(document.chunk_ids)
        )

    def _refuse_too_many(self, corpus: Row, versions: Mapping[str, _Version]) -> None:
        limit = self._request.max_documents
        new = sum(version.created for version in versions.values())
        if limit is not None and new and corpus["documents"] + new > limit:
            raise LimitReached(
                f"The limit max_documents ({limit}) does not allow {new} more.",
                limit="max_documents",
                quota=limit,
                remaining=max(0, limit - corpus["documents"]),
                retry_after_seconds=3600,
            )

    async def _write(
        self,
        corpus: Row,
        changed: Sequence[PreparedDocument],
        versions: Mapping[str, _Version],
        present: Mapping[str, Row],
    ) -> None:
        replaced = [d.document_id for d in changed if d.document_id in present]
        retired = await self._connection.fetch(_RETIRE, self._tenant_id, replaced)
        await self._write_texts(changed, versions)
        lengths = [n for d in changed for n in d.lengths]
        chunks = len(lengths) - len(retired)
        length = sum(lengths) - sum(row["length"] for row in retired)
        pinned = pinned_length(corpus["total_length"] + length, corpus["chunks"] + chunks)
        if pinned != corpus["pinned_length"]:
            await self._reweigh(corpus["pinned_length"], pinned)
        await self._write_vectors(changed, pinned)
        await self._count(changed, retired)
        await self._connection.execute(
            _MOVE_CORPUS,
            self._tenant_id,
            sum(version.created for version in versions.values()),
            sum(len(d.text.encode()) for d in changed),
            chunks,
            length,
            pinned,
            self._request.embedder,
        )

    async def _write_texts(
        self, changed: Sequence[PreparedDocument], versions: Mapping[str, _Version]
    ) -> None:
        common = (
            self._tenant_id,
            [d.document_id for d in changed],
            [d.title for d in changed],
            [orjson.dumps(d.metadata).decode() for d in changed],
            [versions[d.document_id].number for d in changed],
        )
        await self._connection.execute(_UPSERT_DOCUMENTS, *common)
        await self._connection.execute(
            _INSERT_VERSIONS,
            *common,
            [d.text for d in changed],
            [d.content_hash for d in changed],
            [d.language for d in changed],
            [len(d.chunk_ids) for d in changed],
        )
        rows = [
            (
                chunk_id,
                d.document_id,
                versions[d.document_id].number,
                ordinal,
                span.start,
                span.end,
                orjson.dumps(span.headings).decode(),
                span.page,
                d.text[span.start : span.end],
            )
            for d in changed
            for ordinal, (chunk_id, span) in enumerate(zip(d.chunk_ids, d.spans, strict=True))
        ]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[]] * 9
        await self._connection.execute(_INSERT_CHUNKS, self._tenant_id, *columns)

    async def _write_vectors(self, changed: Sequence[PreparedDocument], pinned: float) -> None:
        sparse = [encode_sparse(w) for d in changed for w in weights_of(d, pinned)]
        ids = [chunk_id for d in changed for chunk_id in d.chunk_ids]
        written = await self._taken_back(ids, pinned)
        await self._connection.execute(
            _INSERT_VECTORS,
            self._tenant_id,
            ids,
            [encode_dense(vector) for d in changed for vector in d.vectors],
            sparse,
            [length for d in changed for length in d.lengths],
        )
        if written:
            await replication.note_written(self._connection, self._tenant_id, written)

    async def _taken_back(self, ids: Sequence[UUID], pinned: float) -> list[UUID]:
        """Return the chunks whose vectors are in the hosted store as they are stored here."""
        announced = self._request.announced
        if announced is None or announced.pinned_length != pinned:
            return []
        return await replication.take_back(self._connection, self._tenant_id, announced, ids)

    async def _reweigh(self, old: float, new: float) -> None:
        rows = await self._connection.fetch(_ALL_WEIGHTS, self._tenant_id)
        sparse = [encode_sparse(_reweighed(row, old, new)) for row in rows]
        ids = [row["chunk_id"] for row in rows]
        await self._connection.execute(_REWEIGH, self._tenant_id, ids, sparse)

    async def _count(self, changed: Sequence[PreparedDocument], retired: Sequence[Row]) -> None:
        steps: Counter[int] = Counter()
        for document in changed:
            for terms in document.terms:
                steps.update(terms.keys())
        for row in retired:
            steps.subtract(decode_sparse(row["sparse"]).keys())
        moved = {term: step for term, step in steps.items() if step}
        await self._connection.execute(
            _COUNT_TERMS, self._tenant_id, list(moved.keys()), list(moved.values())
        )


def weights_of(document: PreparedDocument, pinned: float) -> list[dict[int, float]]:
    """Return the BM25 weights of a document's chunks, for a pinned average length."""
    return [
        bm25.document_weights(terms, length=length, average_length=pinned)
        for terms, length in zip(document.terms, document.lengths, strict=True)
    ]


def _next_version(row: Row | None) -> _Version:
    return (
        _Version(1, created=True)
        if row is None
        else _Version(row["current_version"] + 1, created=False)
    )


def _reweighed(row: Row, old: float, new: float) -> dict[int, float]:
    weights = decode_sparse(row["sparse"])
    counts = bm25.term_counts(weights, length=row["length"], average_length=old)
    return bm25.document_weights(counts, length=row["length"], average_length=new)
