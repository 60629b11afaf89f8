"""Erasing where a tenant's content lies in every place at once: two workers with warm caches and
hot files, a hosted vector store, an open job, a conversation.
"""

from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path

import asyncpg
import pytest

from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import UnknownTenant
from compliance_copilot.core.vocabulary import QueryReply
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.rag.filter_language import EVERYTHING, Narrowing, narrowed
from compliance_copilot.rag.jobs import NewFile
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.rag.test_replication import hosted_by, make_index, there
from tests.standins.running import RunningProvider, running_provider
from tests.test_erasure import ACME, OTHER, QUESTION, SECRET, files_below, rows_with


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    with running_provider(tmp_path_factory.mktemp("vectors"), module="vectors") as running:
        yield running


@pytest.fixture
async def workers(settings: Settings, vendor: RunningProvider) -> AsyncIterator[list[Service]]:
    """Two workers of one deployment; both know the answer by heart."""
    chosen = hosted_by(settings, vendor)
    await make_index(chosen)
    async with open_service(chosen) as first, open_service(chosen) as second:
        await make_customer(first, "acme", config={"model_tier": "extractive"})
        await first.copilot.ingest("acme", [SECRET, OTHER])
        for worker in (first, second):
            assert "nine years" in (await ask(worker)).answer
            assert (await ask(worker)).metadata.cached
        yield [first, second]


async def ask(
    worker: Service, conversation_id: str | None = None, narrowing: Narrowing = EVERYTHING
) -> QueryReply:
    call = Call(conversation_id=conversation_id)
    reply = await worker.copilot.query("acme", QUESTION, call=call, narrowing=narrowing)
    assert isinstance(reply, QueryReply)
    return reply


async def leave_a_job_open(worker: Service, folder: Path) -> None:
    path = folder / "falcon"
    path.write_text("Project Falcon waits to be read.")
    file = NewFile("falcon.txt", path, path.stat().st_size, sha256(path.read_bytes()).digest())
    await worker.filing.accept(ACME, [file], call=Call(request_id=new_id()))


async def test_what_one_worker_erases_no_worker_shows(
    workers: list[Service], owner: asyncpg.Connection
) -> None:
    first, second = workers
    await ask(first, "talk")
    await ask(first, "other", narrowed({"document_id": {"eq": "backups"}}))
    receipt = await second.erasing.document(ACME, "falcon", requested_by="a key")
    assert (receipt.state, receipt.probe) == ("finished", {})
    assert receipt.counts["conversation_turns"] == 1
    talks = await owner.fetch("SELECT conversation_id FROM conversation_turns")
    assert [row["conversation_id"] for row in talks] == ["other"]
    for worker in workers:
        reply = await ask(worker)
        assert not reply.metadata.cached
        assert [s.chunk.document_id for s in reply.sources if s.chunk.document_id == "falcon"] == []
        assert "nine years" not in reply.answer
    kept = await owner.fetch("SELECT chunk_id FROM chunk_vectors")
    assert (await there(first))[_namespace(await there(first))] == {str(r[0]) for r in kept}


async def test_a_tenant_goes_from_all_places_at_once(
    workers: list[Service], settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    first, second = workers
    await ask(first, "talk")
    await leave_a_job_open(first, tmp_path)
    full = {"chunk_vectors", "chunks", "documents", "replies"}
    assert {"ingest_files", "ingest_jobs", "ingest_uploads"} | full <= await _filled(owner)
    assert any("turn" in table or "conversation" in table for table in await _filled(owner))
    receipt = await second.erasing.tenant(ACME, requested_by="operator")
    assert (receipt.state, receipt.probe) == ("finished", {})
    assert await rows_with(owner, "falcon") == []
    assert not [table for table in await _filled(owner) if table in full or "ingest" in table]
    assert await there(first) == {}
    hot = [file.parent.name for file in files_below(settings.data_dir) if file.suffix == ".corpus"]
    assert "acme" not in hot
    for worker in workers:
        with pytest.raises(UnknownTenant):
            await ask(worker)


def _namespace(found: dict[str, set[str]]) -> str:
    (name,) = found
    return name


async def _filled(owner: asyncpg.Connection) -> set[str]:
    """Return the tables that hold rows of the tenant."""
    tables = await owner.fetch(
        "SELECT DISTINCT table_name FROM information_schema.columns"
        " WHERE column_name = 'tenant_id' AND table_schema = current_schema()"
    )
    return {
        row["table_name"]
        for row in tables
        if await owner.fetchval(
            f"SELECT EXISTS (SELECT FROM {row['table_name']} WHERE tenant_id = 'acme')"
        )
    }
