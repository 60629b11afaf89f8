"""A tenant's corpus as a whole: which versions are in force, and the numbers BM25 needs.

Whoever changes documents opens the corpus first: that locks its row, so changes of one tenant
follow one another, and brings into force what is due. The numbers are a function of the chunks in
force alone; nothing remembers how the corpus came about.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.core.errors import UnknownTenant
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag import frequencies
from compliance_copilot.rag.terms import from_weights
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.storage.vectors import decode_sparse_rows, encode_sparse_rows

GRID = math.log(1.05)
"""The pinned average length moves in steps of 5 %."""

_LOCK = """
    SELECT c.*, t.status FROM corpora c JOIN tenants t ON t.tenant_id = c.tenant_id
    WHERE c.tenant_id = $1 FOR UPDATE OF c
"""
# Only after the lock is held: whoever waited must not write an instant from before the wait.
_NOW = """
    SELECT t.now, c.next_change_at <= t.now AS due
    FROM corpora c, LATERAL (SELECT greatest(clock_timestamp(), c.in_force_at) AS now) t
    WHERE c.tenant_id = $1
"""
_CHANGED = """
    SELECT sparse, length, effective_from > $2 AS came FROM chunk_vectors
    WHERE tenant_id = $1
      AND ((effective_from > $2 AND effective_from <= $3 AND effective_until > $3)
           OR (effective_until > $2 AND effective_until <= $3 AND effective_from <= $2))
"""
_SHOW = """
    UPDATE documents d
    SET title = v.title, metadata = v.metadata, current_version = v.version, updated_at = now()
    FROM document_versions v
    WHERE d.tenant_id = $1 AND v.tenant_id = $1 AND v.document_id = d.document_id
      AND v.effective_from <= $2 AND v.effective_until > $2 AND v.version <> d.current_version
"""
_ALL_WEIGHTS = "SELECT chunk_id, sparse, length FROM chunk_vectors WHERE tenant_id = $1"
_REWEIGH = """
    UPDATE chunk_vectors v SET sparse = u.sparse
    FROM unnest($2::uuid[], $3::sparsevec[]) AS u (chunk_id, sparse)
    WHERE v.tenant_id = $1 AND v.chunk_id = u.chunk_id
"""
_MOVE = """
    UPDATE corpora SET version = version + 1, documents = documents + $2,
           text_bytes = text_bytes + $3, chunks = chunks + $4, total_length = total_length + $5,
           pinned_length = $6, embedder = coalesce($7, embedder), in_force_at = $8,
           next_change_at = (
               SELECT coalesce(min(v.effective_from), 'infinity') FROM document_versions v
               WHERE v.tenant_id = $1 AND v.effective_from > $8
                 AND v.effective_until > v.effective_from)
    WHERE tenant_id = $1
    RETURNING *
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """Chunks as the statistics see them: how many, how long together, which terms.

    A term is there once for each chunk that has it.
    """

    chunks: int = 0
    length: int = 0
    terms: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))


@dataclass(frozen=True, slots=True)
class Step:
    """What changes: chunks that come into force or go out of it, documents and bytes stored."""

    came: Counted = Counted()
    went: Counted = Counted()
    documents: int = 0
    text_bytes: int = 0
    embedder: str | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """A tenant's corpus, locked by this transaction. `now` is what is in force from here on."""

    tenant_id: TenantId
    documents: int
    text_bytes: int
    chunks: int
    total_length: int
    pinned_length: float
    now: datetime
    row: Row


def pinned_length(total_length: int, chunks: int) -> float:
    """Return the average chunk length, moved to the nearest step of the 5 % grid."""
    if chunks == 0 or total_length == 0:
        return 1.0
    return math.exp(round(math.log(total_length / chunks) / GRID) * GRID)


async def open_corpus(connection: Connection, tenant_id: TenantId) -> Corpus:
    """Lock the tenant's corpus and bring into force what is due. Raises UnknownTenant."""
    row = await connection.fetchrow(_LOCK, tenant_id)
    if row is None or row["status"] == "deleted":
        raise UnknownTenant("There is no such tenant.", kind="tenant", tenant_id=tenant_id)
    now, due = await connection.fetchrow(_NOW, tenant_id)
    corpus = _corpus(row, now)
    if not due:
        return corpus
    changed = await connection.fetch(_CHANGED, tenant_id, row["in_force_at"], now)
    await connection.execute(_SHOW, tenant_id, now)
    step = Step(
        counted([row for row in changed if row["came"]]),
        counted([row for row in changed if not row["came"]]),
    )
    return await move(connection, await reweigh(connection, corpus, step), step)


async def bring_into_force(database: Database, tenant_id: TenantId) -> None:
    """Move the tenant's corpus to the present: versions that are due are searched from now on."""
    async with database.transaction(tenant_id) as connection:
        await open_corpus(connection, tenant_id)


async def reweigh(connection: Connection, corpus: Corpus, step: Step) -> Corpus:
    """Return the corpus with the average length pinned as after the step, all weights alike."""
    length = corpus.total_length + step.came.length - step.went.length
    pinned = pinned_length(length, corpus.chunks + step.came.chunks - step.went.chunks)
    if pinned == corpus.pinned_length:
        return corpus
    rows = await connection.fetch(_ALL_WEIGHTS, corpus.tenant_id)
    sparse = await asyncio.to_thread(_all_reweighed, rows, corpus.pinned_length, pinned)
    ids = [row["chunk_id"] for row in rows]
    await connection.execute(_REWEIGH, corpus.tenant_id, ids, sparse)
    return replace(corpus, pinned_length=pinned)


async def move(connection: Connection, corpus: Corpus, step: Step) -> Corpus:
    """Count the step and give the corpus its next version; it was reweighed before."""
    await frequencies.count(connection, corpus.tenant_id, step.came.terms, step.went.terms)
    row = await connection.fetchrow(
        _MOVE,
        corpus.tenant_id,
        step.documents,
        step.text_bytes,
        step.came.chunks - step.went.chunks,
        step.came.length - step.went.length,
        corpus.pinned_length,
        step.embedder,
        corpus.now,
    )
    return _corpus(row, corpus.now)


def _all_reweighed(rows: Sequence[Row], old: float, new: float) -> list[bytes]:
    terms = from_weights(
        *decode_sparse_rows([row["sparse"] for row in rows]),
        lengths=[row["length"] for row in rows],
        average_length=old,
    )
    return encode_sparse_rows(terms.ids, terms.weights(new), terms.starts)


def counted(rows: Sequence[Row]) -> Counted:
    """Return the chunks behind rows with `sparse` and `length`."""
    terms, _, _ = decode_sparse_rows([row["sparse"] for row in rows])
    return Counted(len(rows), sum(row["length"] for row in rows), terms.astype(np.int32))


def _corpus(row: Row, now: datetime) -> Corpus:
    return Corpus(
        TenantId(row["tenant_id"]),
        row["documents"],
        row["text_bytes"],
        row["chunks"],
        row["total_length"],
        row["pinned_length"],
        now,
        row,
    )
