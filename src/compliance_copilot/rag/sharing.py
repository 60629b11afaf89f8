"""What equal texts share: cut, analysed and embedded once, under however many ids they are stored.

Two documents share their work when text and given sections are the same. Every one keeps chunks of
its own, so each is found, cited and erased by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from hashlib import sha256

import numpy as np
import orjson

from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.rag import analysis
from compliance_copilot.rag.chunking import Span, split
from compliance_copilot.rag.courtesy import STEP_CHUNKS
from compliance_copilot.rag.ports import Vectors
from compliance_copilot.rag.terms import ChunkTerms, all_of, from_weights
from compliance_copilot.storage.database import Connection, Row
from compliance_copilot.storage.vectors import decode_dense, decode_sparse_rows

_STORED = """
    WITH first AS (
        SELECT DISTINCT ON (text_hash) text_hash, document_id, version, language
        FROM document_versions WHERE tenant_id = $1 AND text_hash = ANY ($2)
        ORDER BY text_hash, document_id, version)
    SELECT f.text_hash, f.language, k.pinned_length, c.start_offset, c.end_offset, c.headings,
           c.page, v.dense, v.sparse, v.length
    FROM first f
    JOIN corpora k ON k.tenant_id = $1 AND k.embedder = $3
    JOIN chunks c ON c.tenant_id = $1 AND c.document_id = f.document_id AND c.version = f.version
    JOIN chunk_vectors v ON v.tenant_id = $1 AND v.chunk_id = c.id
    ORDER BY f.text_hash, c.ordinal
"""
# Of the documents that now have a text, the one that was there first.
_FIRST = """
    SELECT DISTINCT ON (v.text_hash) v.text_hash, v.document_id
    FROM document_versions v
    JOIN corpora k ON k.tenant_id = v.tenant_id
    JOIN documents d ON d.tenant_id = v.tenant_id AND d.document_id = v.document_id
    WHERE v.tenant_id = $1 AND v.text_hash = ANY ($2)
      AND v.effective_from <= k.in_force_at AND v.effective_until > k.in_force_at
    ORDER BY v.text_hash, d.created_at, v.document_id
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What is computed from a text alone; `vectors` is empty until it is embedded."""

    language: str
    spans: Sequence[Span]
    terms: ChunkTerms
    vectors: Vectors


def text_hash(document: NewDocument) -> bytes:
    """Return what decides a document's chunks: its text, and the sections that were given."""
    if not document.sections:
        return sha256(document.text.encode()).digest()
    sections = [astuple(section) for section in document.sections]
    return sha256(orjson.dumps([document.text, sections])).digest()


def cut(document: NewDocument, step: Callable[[], None] = lambda: None) -> Work:
    """Return the work of a text, but for the vectors; `step` is called between short steps."""
    step()
    text = document.text
    language = analysis.detect_language(text)
    spans = split(text, document.sections)
    parts = []
    for at in range(0, len(spans), STEP_CHUNKS):
        step()
        chunks = [text[span.start : span.end] for span in spans[at : at + STEP_CHUNKS]]
        parts.append(analysis.chunk_terms(chunks, language))
    return Work(language, spans, all_of(parts), np.empty((0, 0), dtype=np.float32))


async def stored_work(
    connection: Connection, tenant_id: TenantId, hashes: Sequence[bytes], embedder: str
) -> dict[bytes, Work]:
    """Return the work that is stored already, by `text_hash`: of this tenant and embedder only."""
    found: dict[bytes, list[Row]] = {}
    for row in await connection.fetch(_STORED, tenant_id, list(hashes), embedder):
        found.setdefault(row["text_hash"], []).append(row)
    return {key: _work(rows) for key, rows in found.items()}


async def duplicates(
    connection: Connection, tenant_id: TenantId, documents: Sequence[NewDocument]
) -> dict[str, str]:
    """Return, by id, the document that had the same text before it."""
    hashes = {document.document_id or "": text_hash(document) for document in documents}
    first = await first_with(connection, tenant_id, list(hashes.values()))
    return {
        document_id: first[key]
        for document_id, key in hashes.items()
        if first.get(key, document_id) != document_id
    }


async def first_with(
    connection: Connection, tenant_id: TenantId, hashes: Sequence[bytes]
) -> dict[bytes, str]:
    """Return, by `text_hash`, the first of the documents that have a text now."""
    rows = await connection.fetch(_FIRST, tenant_id, list(hashes))
    return {row["text_hash"]: row["document_id"] for row in rows}


def _work(rows: Sequence[Row]) -> Work:
    terms = from_weights(
        *decode_sparse_rows([row["sparse"] for row in rows]),
        lengths=[row["length"] for row in rows],
        average_length=rows[0]["pinned_length"],
    )
    spans = [
        Span(row["start_offset"], row["end_offset"], tuple(row["headings"]), row["page"])
        for row in rows
    ]
    vectors = np.stack([decode_dense(row["dense"]) for row in rows])
    return Work(rows[0]["language"], spans, terms, vectors)
