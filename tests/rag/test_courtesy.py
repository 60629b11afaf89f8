"""An ingest lets questions go first, ends when it is left, and meets no other tenant's."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import asyncpg
import pytest

from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.courtesy import STEP_CHUNKS, Courtesy
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.ports import Embedded
from compliance_copilot.rag.quotas import Quotas
from compliance_copilot.storage.database import Database
from tests.conftest import make_customer
from tests.rag.test_corpus import GERMAN, LONG, QUESTIONS, SHORT, ranking, statistics
from tests.rag.test_corpus import owner_of_vectors as owner_of_vectors

LARGE = NewDocument(
    "\n\n".join(f"## {n}\n\nRule {n} is kept for {n} days." for n in range(60 * STEP_CHUNKS)),
    "large",
)


class Counting(Courtesy):
    """Counts the steps that work takes; at the third it tells, and waits until it may go on."""

    def __init__(self, *, waits: bool = False) -> None:
        super().__init__()
        self.steps = 0
        self.third, self.may = asyncio.Event(), threading.Event()
        self._loop = asyncio.get_running_loop()
        if not waits:
            self.may.set()

    def step(self) -> None:
        self.steps += 1
        if self.steps == 3:
            self._loop.call_soon_threadsafe(self.third.set)
            self.may.wait()
        super().step()


@dataclass
class Stalled(WordllamaEmbedder):
    """An embedder that tells when it is asked, and answers when it may."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    may: asyncio.Event = field(default_factory=asyncio.Event)

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        self.asked.set()
        await self.may.wait()
        return await super().embed(texts, deadline=deadline)


async def test_work_waits_while_a_question_is_at_work_and_never_for_ever() -> None:
    courtesy = Courtesy()
    assert not courtesy.asked
    await courtesy.pause()
    with courtesy.question():
        assert courtesy.asked
        waiting = asyncio.create_task(asyncio.to_thread(courtesy.step))
        await courtesy.pause()
        await waiting
        with courtesy.question():
            pass
        assert courtesy.asked, "the first one is still there"
    assert not courtesy.asked


async def test_a_question_counts_while_the_service_answers_it_and_an_ingest_does_not(
    service: Service,
) -> None:
    await make_customer(service, "acme")
    courtesy = service.copilot._rooms.courtesy

    async def seen(work: asyncio.Task[object]) -> bool:
        asked = False
        while not work.done():
            asked = asked or courtesy.asked
            await asyncio.sleep(0)
        await work
        return asked or courtesy.asked

    assert not await seen(asyncio.create_task(service.copilot.ingest("acme", [SHORT])))
    assert await seen(asyncio.create_task(service.copilot.query("acme", QUESTIONS[0])))
    assert not courtesy.asked


async def test_under_constant_questions_an_ingest_still_ends(
    service: Service, database: Database
) -> None:
    await make_customer(service, "acme")
    courtesy = Counting()
    ingestion = Ingestion(database, WordllamaEmbedder(), courtesy=courtesy)

    async def ask() -> None:
        while True:
            with courtesy.question():
                await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    stored = await ingestion.ingest(
        TenantId("acme"), [LONG, SHORT], quotas=Quotas(), deadline=Deadline.after(60.0)
    )
    asking.cancel()
    assert [d.status for d in stored] == ["created", "created"]
    assert courtesy.steps >= 2


@pytest.mark.parametrize("cutting", [True, False])
async def test_an_ingest_that_is_left_stores_nothing_and_stops_working(
    service: Service, database: Database, *, cutting: bool
) -> None:
    await make_customer(service, "acme")
    courtesy, embedder = Counting(waits=cutting), Stalled()
    ingestion = Ingestion(database, embedder, courtesy=courtesy)
    with ThreadPoolExecutor(1) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        work = asyncio.create_task(
            ingestion.ingest(
                TenantId("acme"), [LARGE], quotas=Quotas(), deadline=Deadline.after(60.0)
            )
        )
        await (courtesy.third if cutting else embedder.asked).wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        courtesy.may.set()
        await asyncio.to_thread(lambda: None)  # the one thread is free again
        assert courtesy.steps == (3 if cutting else 61)
    assert await service.copilot.documents.list("acme") == []


async def test_two_tenants_at_once_store_what_each_would_alone(
    service: Service, owner_of_vectors: asyncpg.Connection
) -> None:
    for tenant_id in ("acme", "beta", "alone"):
        await make_customer(service, tenant_id)
    texts = [LONG, SHORT, GERMAN, replace(LONG, document_id="again")]
    await asyncio.gather(
        service.copilot.ingest("acme", texts), service.copilot.ingest("beta", texts[:2])
    )
    await service.copilot.ingest("alone", texts)
    assert await ranking(service, "acme") == await ranking(service, "alone")
    assert await statistics(owner_of_vectors, "acme") == await statistics(owner_of_vectors, "alone")
    assert {d.document_id for d in await service.copilot.documents.list("beta")} == {
        "passwords", "backups",
    }  # fmt: skip
