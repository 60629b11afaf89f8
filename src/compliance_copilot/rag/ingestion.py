"""From texts to stored documents: clean, compare, cut, analyse, embed, store."""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import accumulate

import numpy as np

from compliance_copilot.core.clock import Deadline, new_ids
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import IngestedDocument, NewDocument, TenantId
from compliance_copilot.rag import corpus, sharing, versions
from compliance_copilot.rag.chunking import Span
from compliance_copilot.rag.columns import PreparedDocument, sliced
from compliance_copilot.rag.courtesy import Courtesy
from compliance_copilot.rag.filters import Facts
from compliance_copilot.rag.hostile import clean_text
from compliance_copilot.rag.ports import Embedder, Vectors
from compliance_copilot.rag.quotas import Quotas, Stock, check_quotas, read_stock
from compliance_copilot.rag.replication import Announced, Replication, VectorRecord
from compliance_copilot.rag.sharing import Work
from compliance_copilot.rag.spans import embedding_span
from compliance_copilot.storage.database import Database
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import span

_BATCH_TEXTS = 256


class Ingestion:
    """Takes documents of one tenant in, all of a call or none."""

    def __init__(
        self,
        database: Database,
        embedder: Embedder,
        replication: Replication | None = None,
        courtesy: Courtesy | None = None,
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._replication = replication or Replication(database)
        self._courtesy = courtesy or Courtesy()

    def embedding_with(self, embedder: Embedder) -> "Ingestion":
        """Return the same with another embedder: one whose calls are counted."""
        return Ingestion(self._database, embedder, self._replication, self._courtesy)

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
        named = await asyncio.to_thread(_all_named, documents)
        ids = [document.document_id for document in named if document.document_id]
        _refuse_twins(ids)
        known = await self._known(tenant_id, named, quotas)
        fresh = [d for d in named if d.document_id not in known]
        works = await self._works(tenant_id, fresh, deadline)
        prepared = await asyncio.to_thread(_all_prepared, fresh, works)
        request = corpus.StoreRequest(prepared, self._embedder.name, quotas)
        with span("store", {"documents": len(request.documents)}):
            stored = {d.document_id: d for d in await self._store(tenant_id, request, deadline)}
        _count(tenant_id, stored.values())
        done = [stored.get(d.document_id or "") or known[d.document_id or ""] for d in named]
        async with self._database.transaction(tenant_id) as connection:
            twins = await sharing.duplicates(connection, tenant_id, named)
        return [replace(d, duplicate_of=twins.get(d.document_id)) for d in done]

    async def _known(
        self, tenant_id: TenantId, documents: Sequence[NewDocument], quotas: Quotas
    ) -> dict[str, IngestedDocument]:
        """Return what is stored already, by id; where it was read from is noted all the same.

        Raises LimitReached before any work; the transaction that stores looks once more.
        """
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
            fresh = [d for d in documents if d.document_id not in same]
            growth = Stock(
                sum(d.document_id not in there for d in fresh),
                sum(len(d.text.encode()) for d in fresh),
            )
            check_quotas(await read_stock(connection, tenant_id), quotas, growth)
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
        stored = await corpus.store(
            self._database, tenant_id, placed, deadline=deadline, pause=self._courtesy.pause
        )
        await copy.flush(tenant_id)
        return stored

    async def _works(
        self, tenant_id: TenantId, documents: Sequence[NewDocument], deadline: Deadline
    ) -> dict[bytes, Work]:
        """Return the work of each text, by hash: what is stored is taken, the rest done once."""
        texts = await asyncio.to_thread(_by_text, documents)
        async with self._database.transaction(tenant_id, deadline=deadline) as connection:
            works = await sharing.stored_work(
                connection, tenant_id, list(texts), self._embedder.name
            )
        missing = [(key, document) for key, document in texts.items() if key not in works]
        return works | await self._made(missing, deadline)

    async def _made(
        self, texts: Sequence[tuple[bytes, NewDocument]], deadline: Deadline
    ) -> dict[bytes, Work]:
        """Return the work of texts, part by part: while one is embedded, the next is cut."""
        if not texts:
            return {}
        parts = list(sliced(texts, lambda entry: len(entry[1].text)))
        works: dict[bytes, Work] = {}
        cutting = self._begun_cutting(parts[0])
        try:
            for part, following in zip(parts, [*parts[1:], []], strict=True):
                with span("cut", {"documents": len(part)}):
                    cuts = await cutting
                cutting = self._begun_cutting(following)
                with embedding_span(self._embedder):
                    vectors = await self._vectors(part, cuts, deadline)
                for (key, _), work, own in zip(part, cuts, vectors, strict=True):
                    works[key] = replace(work, vectors=own)
        finally:
            cutting.cancel()
        return works

    def _begun_cutting(
        self, texts: Sequence[tuple[bytes, NewDocument]]
    ) -> asyncio.Task[list[Work]]:
        """Return the work of cutting in a thread; when it is cancelled, it ends with its step."""
        left = threading.Event()

        def cut_all() -> list[Work]:
            return [sharing.cut(document, partial(self._step, left)) for _, document in texts]

        task = asyncio.create_task(asyncio.to_thread(cut_all))
        task.add_done_callback(lambda _: left.set())
        return task

    def _step(self, left: threading.Event) -> None:
        if left.is_set():
            raise asyncio.CancelledError
        self._courtesy.step()

    async def _vectors(
        self,
        texts: Sequence[tuple[bytes, NewDocument]],
        cuts: Sequence[Work],
        deadline: Deadline,
    ) -> list[Vectors]:
        chunks = [
            document.text[span.start : span.end]
            for (_, document), work in zip(texts, cuts, strict=True)
            for span in work.spans
        ]
        batches = []
        for at in range(0, len(chunks), _BATCH_TEXTS):
            await self._courtesy.pause()
            batch = chunks[at : at + _BATCH_TEXTS]
            batches.append((await self._embedder.embed(batch, deadline=deadline)).vectors)
        ends = list(accumulate(len(work.spans) for work in cuts))
        nothing = np.zeros((0, self._embedder.dimensions), dtype=np.float32)
        return np.split(np.concatenate([nothing, *batches]), ends[:-1])


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


def _all_named(documents: Sequence[NewDocument]) -> list[NewDocument]:
    return [_named(document, place) for place, document in enumerate(documents)]


def _by_text(documents: Sequence[NewDocument]) -> dict[bytes, NewDocument]:
    return {sharing.text_hash(document): document for document in documents}


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


def _title_of(spans: Sequence[Span]) -> str | None:
    return next((span.headings[0] for span in spans if span.headings), None)


def _all_prepared(
    documents: Sequence[NewDocument], works: Mapping[bytes, Work]
) -> list[PreparedDocument]:
    return [_prepared(document, works[sharing.text_hash(document)]) for document in documents]


def _prepared(document: NewDocument, work: Work) -> PreparedDocument:
    document_id = document.document_id or ""
    return PreparedDocument(
        document_id=document_id,
        title=document.title or _title_of(work.spans) or document_id,
        text=document.text,
        metadata=document.metadata,
        content_hash=_content_hash(document),
        text_hash=sharing.text_hash(document),
        language=work.language,
        spans=work.spans,
        chunk_ids=new_ids(len(work.spans)),
        terms=work.terms,
        vectors=work.vectors,
        effective_from=document.effective_from,
        source=document.source,
    )


def _records(document: PreparedDocument, announced: Announced) -> Iterator[VectorRecord]:
    """Yield a document's vectors as a hosted store keeps them, before they are current here."""
    start = document.effective_from or announced.at
    facts = Facts(document.document_id, start, announced.at, document.metadata)
    weights = document.terms.rows(document.terms.weights(announced.pinned_length))
    for chunk_id, dense, sparse in zip(document.chunk_ids, document.vectors, weights, strict=True):
        yield VectorRecord(chunk_id, dense, sparse, facts, effective_from=start)
