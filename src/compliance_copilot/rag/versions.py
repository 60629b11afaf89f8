"""What is stored of a document: which version holds when, and where it was read from."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from compliance_copilot.core.vocabulary import IngestedDocument, Source, TenantId
from compliance_copilot.storage.database import Connection, Row

# What holds, or will hold, at the instant from which a new version is to be in force.
_PRESENT = """
    SELECT d.document_id, v.version, v.content_hash, v.chunks,
           v.effective_from <= $4 AND v.effective_until > $4 AS in_force,
           (SELECT max(o.version) FROM document_versions o
            WHERE o.tenant_id = $1 AND o.document_id = d.document_id) AS last_version
    FROM unnest($2::text[], $3::timestamptz[]) AS u (document_id, at)
    JOIN documents d ON d.tenant_id = $1 AND d.document_id = u.document_id
    LEFT JOIN document_versions v
        ON v.tenant_id = $1 AND v.document_id = u.document_id
       AND v.effective_from <= coalesce(u.at, $4) AND v.effective_until > coalesce(u.at, $4)
"""
_NOTE_SOURCES = """
    UPDATE documents d SET source_path = u.path, source_hash = u.hash
    FROM unnest($2::text[], $3::text[], $4::bytea[]) AS u (document_id, path, hash)
    WHERE d.tenant_id = $1 AND d.document_id = u.document_id AND u.path IS NOT NULL
      AND (d.source_path, d.source_hash) IS DISTINCT FROM (u.path, u.hash)
"""

# A version is in force from its instant until that of the next; of two with the same, the later
# stored one. So what holds when is a function of the versions alone.
_ORDER = """
    WITH line AS (
        SELECT document_id, version, effective_until AS before,
               coalesce(lead(effective_from) OVER (PARTITION BY document_id
                                                   ORDER BY effective_from, version),
                        'infinity') AS until
        FROM document_versions WHERE tenant_id = $1 AND document_id = ANY ($2)
    ), moved AS (
        UPDATE document_versions v SET effective_until = l.until
        FROM line l
        WHERE v.tenant_id = $1 AND v.document_id = l.document_id AND v.version = l.version
          AND l.before <> l.until
        RETURNING v.document_id, v.version, l.before, l.until)
    UPDATE chunk_vectors v SET effective_until = m.until
    FROM chunks c JOIN moved m ON m.document_id = c.document_id AND m.version = c.version
    WHERE c.tenant_id = $1 AND v.tenant_id = $1 AND v.chunk_id = c.id
    RETURNING v.sparse, v.length, m.before > $3 AND m.until <= $3 AS went
"""
_HOLDING = """
    SELECT document_id, version FROM document_versions
    WHERE tenant_id = $1 AND document_id = ANY ($2)
      AND effective_from <= $3 AND effective_until > $3
"""
_SHOWN = """
    SELECT document_id, current_version FROM documents
    WHERE tenant_id = $1 AND document_id = ANY ($2)
"""
_SHOW = """
    UPDATE documents d
    SET title = v.title, metadata = v.metadata, current_version = v.version
    FROM unnest($2::text[], $3::integer[]) AS u (document_id, version), document_versions v
    WHERE d.tenant_id = $1 AND d.document_id = u.document_id
      AND v.tenant_id = $1 AND v.document_id = u.document_id AND v.version = u.version
"""


def content_hash(text: str, title: str | None, metadata: Mapping[str, Any]) -> bytes:
    """Return what two equal versions share: text, title and metadata."""
    content = [text, title, dict(metadata)]
    return sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()


async def present(
    connection: Connection,
    tenant_id: TenantId,
    wanted: Mapping[str, datetime | None],
    now: datetime | None = None,
) -> dict[str, Row]:
    """Return, by id, what is stored of documents: what holds at each one's instant (None: now)."""
    instant = now or await connection.fetchval("SELECT clock_timestamp()")
    rows = await connection.fetch(
        _PRESENT, tenant_id, list(wanted.keys()), list(wanted.values()), instant
    )
    return {row["document_id"]: row for row in rows}


def unchanged(row: Row) -> IngestedDocument:
    """Return the outcome for a document whose content is stored already."""
    return IngestedDocument(
        row["document_id"], row["version"], "unchanged", row["chunks"], row["in_force"]
    )


async def note_sources(
    connection: Connection, tenant_id: TenantId, sources: Mapping[str, Source | None]
) -> None:
    """Keep where documents were last read from; one without a source keeps what it has."""
    known = {document_id: source for document_id, source in sources.items() if source}
    if known:
        await connection.execute(
            _NOTE_SOURCES,
            tenant_id,
            list(known),
            [source.path for source in known.values()],
            [source.sha256 for source in known.values()],
        )


async def put_in_order(
    connection: Connection, tenant_id: TenantId, ids: Sequence[str], now: datetime
) -> tuple[list[Row], dict[str, int]]:
    """Let each version hold until the next; return vectors that changed, and what holds now."""
    moved = await connection.fetch(_ORDER, tenant_id, ids, now)
    holding = dict(await connection.fetch(_HOLDING, tenant_id, ids, now))
    shown = dict(await connection.fetch(_SHOWN, tenant_id, ids))
    other = {i: version for i, version in holding.items() if shown.get(i) != version}
    if other:  # a new document was written as it is shown
        await connection.execute(_SHOW, tenant_id, list(other.keys()), list(other.values()))
    return moved, holding
