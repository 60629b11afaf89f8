"""Another title or metadata for a document: its next version, nothing cut or embedded anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from compliance_copilot.core.clock import new_ids
from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.quotas import Quotas, Stock, check_quotas
from compliance_copilot.rag.statistics import Step, move, open_corpus
from compliance_copilot.rag.versions import content_hash, put_in_order
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row

_SHOWN = """
    SELECT v.*, (SELECT max(o.version) + 1 FROM document_versions o
                 WHERE o.tenant_id = $1 AND o.document_id = $2) AS next_version
    FROM documents d JOIN document_versions v
        ON v.tenant_id = d.tenant_id AND v.document_id = d.document_id
       AND v.version = d.current_version
    WHERE d.tenant_id = $1 AND d.document_id = $2
"""
# Before its time the new version waits in the place of the old one.
_COPY_VERSION = """
    INSERT INTO document_versions (tenant_id, document_id, version, title, metadata, text,
                                   content_hash, text_hash, language, chunks, effective_from)
    SELECT tenant_id, document_id, $4, $5, $6::jsonb, text, $7, text_hash, language, chunks,
           greatest(effective_from, $8)
    FROM document_versions WHERE tenant_id = $1 AND document_id = $2 AND version = $3
"""
_CHUNK_IDS = """
    SELECT id FROM chunks WHERE tenant_id = $1 AND document_id = $2 AND version = $3
    ORDER BY ordinal
"""
_COPY_CHUNKS = """
    INSERT INTO chunks (tenant_id, id, document_id, version, ordinal, start_offset, end_offset,
                        headings, page, text)
    SELECT c.tenant_id, u.new, c.document_id, $4, c.ordinal, c.start_offset, c.end_offset,
           c.headings, c.page, c.text
    FROM unnest($2::uuid[], $3::uuid[]) AS u (old, new)
    JOIN chunks c ON c.tenant_id = $1 AND c.id = u.old
"""
_COPY_VECTORS = """
    INSERT INTO chunk_vectors (tenant_id, chunk_id, dense, sparse, length, effective_from,
                               effective_until)
    SELECT v.tenant_id, u.new, v.dense, v.sparse, v.length, d.effective_from, d.effective_until
    FROM unnest($2::uuid[], $3::uuid[]) AS u (old, new)
    JOIN chunk_vectors v ON v.tenant_id = $1 AND v.chunk_id = u.old
    JOIN chunks c ON c.tenant_id = $1 AND c.id = u.new
    JOIN document_versions d ON d.tenant_id = $1 AND d.document_id = c.document_id
                            AND d.version = c.version
"""


@dataclass(frozen=True, slots=True)
class Revision:
    """What is changed about a document; None leaves it as it is."""

    title: str | None = None
    metadata: Mapping[str, Any] | None = None


async def revise(
    database: Database,
    tenant_id: TenantId,
    document_id: str,
    revision: Revision,
    quotas: Quotas,
) -> None:
    """Give a document another title or metadata from now on. Raises NotFound, LimitReached.

    Versions are never changed: what was cited keeps the title it was cited under.
    """
    async with database.transaction(tenant_id) as connection:
        corpus = await open_corpus(connection, tenant_id)
        old = await connection.fetchrow(_SHOWN, tenant_id, document_id)
        if old is None:
            raise NotFound("There is no such document.", kind="document")
        metadata = orjson.loads(old["metadata"]) if revision.metadata is None else revision.metadata
        title = revision.title or old["title"]
        if title == old["title"] and metadata == orjson.loads(old["metadata"]):
            return
        growth = Stock(text_bytes=len(old["text"].encode()))
        check_quotas(corpus, quotas, growth)
        await connection.execute(
            _COPY_VERSION,
            tenant_id,
            document_id,
            old["version"],
            old["next_version"],
            title,
            orjson.dumps(metadata).decode(),
            content_hash(old["text"], title, metadata),
            corpus.now,
        )
        await put_in_order(connection, tenant_id, [document_id], corpus.now)
        await _copy_chunks(connection, old)
        # As many chunks with the same terms come as go: only the bytes and the version move.
        await move(connection, corpus, Step(text_bytes=growth.text_bytes))
        entry = AuditEntry(
            "document.revised", f"document:{document_id}", {"version": old["next_version"]}
        )
        await append(connection, tenant_id, entry)


async def _copy_chunks(connection: Connection, old: Row) -> None:
    key = (old["tenant_id"], old["document_id"], old["version"])
    before = [row["id"] for row in await connection.fetch(_CHUNK_IDS, *key)]
    after = new_ids(len(before))
    await connection.execute(_COPY_CHUNKS, key[0], before, after, old["next_version"])
    await connection.execute(_COPY_VECTORS, key[0], before, after)
