"""Equal texts under several ids: worked out once, found and cited under each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import asyncpg
import pytest

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import LimitReached
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator.service import Service
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.ports import Embedded, Embedder
from compliance_copilot.rag.quotas import Quotas
from compliance_copilot.storage.database import Database
from tests.conftest import make_customer
from tests.rag.test_corpus import LONG, SHORT

ACME = TenantId("acme")
UNLIMITED = Quotas()
COPY = replace(SHORT, document_id="copy")


@dataclass
class Counting:
    """An embedder that counts what it is asked."""

    embedder: Embedder
    texts: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.embedder.name

    @property
    def provider(self) -> str:
        return self.embedder.provider

    @property
    def dimensions(self) -> int:
        return self.embedder.dimensions

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        self.texts.extend(texts)
        return await self.embedder.embed(texts, deadline=deadline)


@pytest.fixture
async def counting(service: Service, database: Database) -> tuple[Ingestion, Counting]:
    from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder

    await make_customer(service, "acme")
    embedder = Counting(WordllamaEmbedder())
    return Ingestion(database, embedder), embedder


async def ingest(
    ingestion: Ingestion, documents: Sequence[NewDocument], quotas: Quotas = UNLIMITED
) -> list[tuple[str, str, str | None]]:
    stored = await ingestion.ingest(ACME, documents, quotas=quotas, deadline=Deadline.after(60.0))
    return [(d.document_id, d.status, d.duplicate_of) for d in stored]


async def test_an_equal_text_is_embedded_once_and_found_under_every_id(
    service: Service, counting: tuple[Ingestion, Counting], owner: asyncpg.Connection
) -> None:
    ingestion, embedder = counting
    third = replace(SHORT, document_id="third")
    assert await ingest(ingestion, [SHORT, LONG, COPY]) == [
        ("backups", "created", None),
        ("passwords", "created", None),
        ("copy", "created", "backups"),
    ]
    assert len(embedder.texts) == len(set(embedder.texts)) > 20
    embedder.texts.clear()
    assert await ingest(ingestion, [third]) == [("third", "created", "backups")]
    assert await ingest(ingestion, [third]) == [("third", "unchanged", "backups")]
    assert embedder.texts == []
    same = await owner.fetch(
        "SELECT v.dense::text, v.sparse::text, v.length, c.text, c.start_offset, c.end_offset,"
        " c.headings, c.page FROM chunk_vectors v JOIN chunks c ON c.id = v.chunk_id"
        " WHERE c.document_id <> 'passwords'"
    )
    assert len(same) == 3
    assert same[0] == same[1] == same[2]
    found = await service.copilot.search("acme", "How long are backups kept?")
    shown = {r.chunk.document_id: r.score for r in found.results if r.chunk.text == same[0]["text"]}
    assert set(shown) == {"backups", "copy", "third"}
    await service.erasing.document(ACME, "backups", requested_by="test")
    assert await service.copilot.documents.text(ACME, "third", 1) == SHORT.text
    left = await service.copilot.search("acme", "How long are backups kept?")
    assert {"copy", "third"} <= {r.chunk.document_id for r in left.results}


async def test_another_tenants_equal_text_is_neither_shared_nor_told(
    service: Service, counting: tuple[Ingestion, Counting]
) -> None:
    ingestion, embedder = counting
    await make_customer(service, "beta")
    await service.copilot.ingest("beta", [SHORT])
    assert await ingest(ingestion, [COPY]) == [("copy", "created", None)]
    assert embedder.texts != []


async def test_what_does_not_fit_is_refused_before_it_is_embedded(
    counting: tuple[Ingestion, Counting],
) -> None:
    ingestion, embedder = counting
    for quotas in (Quotas(max_documents=1), Quotas(max_bytes=len(LONG.text))):
        with pytest.raises(LimitReached):
            await ingest(ingestion, [SHORT, LONG], quotas)
    assert embedder.texts == []
    await ingest(ingestion, [SHORT, LONG], Quotas(2, 100_000))
    assert embedder.texts != []
