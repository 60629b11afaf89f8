"""From texts to stored documents: clean, compare, cut, analyse, embed, store."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from compliance_copilot.core.clock import Deadline, new_id
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import IngestedDocument, NewDocument, Source, TenantId
from compliance_copilot.rag import analysis, corpus, versions
from compliance_copilot.rag.chunking import Span, split
from compliance_copilot.rag.filters import Facts
from compliance_copilot.rag.hostile import clean_text
from compliance_copilot.rag.ports import Embedder, Vectors
from compliance_copilot.rag.quotas import Quotas
from compliance_copilot.rag.replication import Announced, Replication, VectorRecord
from compliance_copilot.rag.spans import embedding_span
from compliance_copilot.storage.database import Database
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import span

_BATCH_TEXTS = 256


@dataclass(frozen=True, slots=True)
class _Cut:
    """A document before embedding."""

    document_id: str
    title: str
    text: str
    metadata: Mapping[str, Any]
    content_hash: bytes
    language: str
    spans: Sequence[Span]
    terms: Sequence[Mapping[int, int]]
    effective_from: datetime | None
    source: Source | None


class Ingestion:
    """Takes documents of one tenant in, all of a call or none."""

    def __init__(
        self, database: Database, embedder: Embedder, replication: Replication | None = None
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._replication = replication or Replication(database)

    def embedding_with(self, embedder: Embedder) -> "Ingestion":
        """Return the same with another embedder: one whose calls are counted."""
        return Ingestion(self._database, embedder, self._replication)

    async def ingest(
        self,
        tenant_id: TenantId,
        documents: Sequence[NewDocument],
        *,
        quotas: Quotas,
        deadline: Deadline,
    ) -> list[IngestedDocument]:
        """Store what is new or changed; the same content again is `unchanged` and no work.

        Raises InvalidRequest naming the document's place, LimitReached, ModelUnavailable.
        """
        named = [_named(document, place) for place, document in enumerate(documents)]
        ids = [document.document_id for document in named if document.document_id]
        _refuse_twins(ids)
        known = await self._known(tenant_id, named)
        fresh = [d for d in named if d.document_id not in known]
        with span("cut", {"documents": len(fresh)}):
            cuts = await asyncio.to_thread(_cut_all, fresh)
        with embedding_span(self._embedder):
            vectors = await self._embed(cuts, deadline)
        request = corpus.StoreRequest(
            [_prepared(cut, v) for cut, v in zip(cuts, vectors, strict=True)],
            self._embedder.name,
            quotas,
        )
        with span("store", {"documents": len(request.documents)}):
            stored = {d.document_id: d for d in await self._store(tenant_id, request, deadline)}
        _count(tenant_id, stored.values())
        return [stored.get(d.document_id or "") or known[d.document_id or ""] for d in named]

    async def _known(
        self, tenant_id: TenantId, documents: Sequence[NewDocument]
    ) -> dict[str, IngestedDocument]:
        """Return what is stored already, by id; where it was read from is noted all the same."""
        wanted = {d.document_id or "": d.effective_from for d in documents}
        async with self._database.transaction(tenant_id) as connection:
            there = await versions.present(connection, tenant_id, wanted)
            same = {
                d.document_id: d
                for d in documents
                if d.document_id in there
                and there[d.document_id]["content_hash"] == _content_hash(d)
            }
            sources = {document_id or "": d.source for document_id, d in same.items()}
            await versions.note_sources(connection, tenant_id, sources)
        return {document_id or "": versions.unchanged(there[document_id]) for document_id in same}

    async def _store(
        self, tenant_id: TenantId, request: corpus.StoreRequest, deadline: Deadline
    ) -> list[IngestedDocument]:
        if not request.documents:
            return []
        copy = self._replication
        ids = [chunk_id for document in request.documents for chunk_id in document.chunk_ids]
        announced = await copy.announce(tenant_id, ids, request.embedder, deadline=deadline)
        if announced is not None:
            records = [r for d in request.documents for r in _records(d, announced)]
            await copy.write(announced, records, deadline=deadline)
        placed = replace(request, store=copy.store, announced=announced)
        stored = await corpus.store(self._database, tenant_id, placed, deadline=deadline)
        await copy.flush(tenant_id)
        return stored

    async def _embed(self, cuts: Sequence[_Cut], deadline: Deadline) -> list[Vectors]:
        texts = [cut.text[span.start : span.end] for cut in cuts for span in cut.spans]
        batches = [
            (await self._embedder.embed(texts[at : at + _BATCH_TEXTS], deadline=deadline)).vectors
            for at in range(0, len(texts), _BATCH_TEXTS)
        ]
        rows = [row for batch in batches for row in batch]
        result, at = [], 0
        for cut in cuts:
            result.append(rows[at : at + len(cut.spans)])
            at += len(cut.spans)
        return result  # type: ignore[return-value]  # a list of rows serves as a matrix


def _count(tenant_id: TenantId, stored: Iterable[IngestedDocument]) -> None:
    tenant, chunks = metrics.tenant_label(tenant_id), [d.chunks for d in stored]
    metrics.INGESTED.labels("documents", tenant).inc(len(chunks))
    metrics.INGESTED.labels("chunks", tenant).inc(sum(chunks))


def _named(document: NewDocument, place: int) -> NewDocument:
    # What no reader sees is not stored; all offsets refer to the text as it is stored.
    text = clean_text(document.text)
    if not text.strip():
        raise InvalidRequest("The text is empty.", field=f"documents.{place}.text")
    derived = document.document_id or f"doc-{sha256(text.encode()).hexdigest()[:24]}"
    if document.sections and text != document.text:
        raise InvalidRequest(
            "Sections need a text without hidden characters.", field=f"documents.{place}.text"
        )
    return replace(document, text=text, document_id=derived)


def _refuse_twins(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for place, document_id in enumerate(ids):
        if document_id in seen:
            raise InvalidRequest(
                "This document_id comes twice in one call.",
                field=f"documents.{place}.document_id",
            )
        seen.add(document_id)


def _content_hash(document: NewDocument) -> bytes:
    return versions.content_hash(document.text, document.title, document.metadata)


def _cut_all(documents: Sequence[NewDocument]) -> list[_Cut]:
    return [_cut(document) for document in documents]


def _cut(document: NewDocument) -> _Cut:
    text = document.text
    language = analysis.detect_language(text)
    spans = split(text, document.sections)
    return _Cut(
        document_id=document.document_id or "",
        title=document.title or _title_of(spans) or document.document_id or "",
        text=text,
        metadata=document.metadata,
        content_hash=_content_hash(document),
        language=language,
        spans=spans,
        terms=[analysis.terms(text[span.start : span.end], language) for span in spans],
        effective_from=document.effective_from,
        source=document.source,
    )


def _title_of(spans: Sequence[Span]) -> str | None:
    return next((span.headings[0] for span in spans if span.headings), None)


def _prepared(cut: _Cut, vectors: Vectors) -> corpus.PreparedDocument:
    return corpus.PreparedDocument(
        document_id=cut.document_id,
        title=cut.title,
        text=cut.text,
        metadata=cut.metadata,
        content_hash=cut.content_hash,
        text_hash=sha256(cut.text.encode()).digest(),
        language=cut.language,
        spans=cut.spans,
        chunk_ids=[new_id() for _ in cut.spans],
        terms=cut.terms,
        lengths=[analysis.document_length(terms) for terms in cut.terms],
        vectors=vectors,
        effective_from=cut.effective_from,
        source=cut.source,
    )


def _records(document: corpus.PreparedDocument, announced: Announced) -> Iterator[VectorRecord]:
    """Yield a document's vectors as a hosted store keeps them, before they are current here."""
    start = document.effective_from or announced.at
    facts = Facts(document.document_id, start, announced.at, document.metadata)
    weights = corpus.weights_of(document, announced.pinned_length)
    for chunk_id, dense, sparse in zip(document.chunk_ids, document.vectors, weights, strict=True):
        yield VectorRecord(chunk_id, dense, sparse, facts, effective_from=start)
