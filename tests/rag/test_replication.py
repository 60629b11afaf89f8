"""The copy of the vectors at the hosted store: the same as the rows here, after every accident."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from compliance_copilot.adapters.pinecone_control import deployment, ensure_index
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import RetrievalUnavailable, SetupError
from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.engines import make_pinecone_store
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.onnx_model import make_folder
from tests.standins.running import RunningProvider, running_provider

DOCUMENTS = [
    NewDocument(f"# Rule {n}\n\nRule {n} keeps backups for {n} days.", f"rule-{n}")
    for n in range(1, 7)
]
QUESTION = "Which rule keeps backups for 3 days?"
HYBRID = {"retrieval_mode": "hybrid"}


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    with running_provider(tmp_path_factory.mktemp("vectors"), module="vectors") as running:
        yield running


def hosted_by(settings: Settings, vendor: RunningProvider) -> Settings:
    update = {
        "vector_store": "pinecone",
        "pinecone_api_key": SecretStr("pc-test"),
        "pinecone_index_name": f"test-{uuid4().hex[:12]}",
        "pinecone_controller_host": vendor.url,
    }
    vendor.fault("normal")
    return settings.model_copy(update=update)


async def make_index(settings: Settings, dimension: int = 256) -> None:
    store = make_pinecone_store(settings)
    await ensure_index(store, dimension=dimension, region=None, deadline=Deadline.after(20))
    await store.aclose()


@pytest.fixture
async def hosted(settings: Settings, vendor: RunningProvider) -> AsyncIterator[Service]:
    chosen = hosted_by(settings, vendor)
    await make_index(chosen)
    async with open_service(chosen) as service:
        await make_customer(service, "acme", config=HYBRID)
        yield service


async def there(service: Service) -> dict[str, set[str]]:
    """Return the ids at the vendor by namespace."""
    store = service.copilot._rooms.ingestion._replication._copy
    stats = await store.describe(deadline=Deadline.after(10))
    found: dict[str, set[str]] = {}
    index = await store._opened()
    for name in stats.namespaces:
        found[name] = {v.id async for page in index.list(namespace=name) for v in page.vectors}
    return found


async def here(owner: asyncpg.Connection) -> set[str]:
    return {str(row["chunk_id"]) for row in await owner.fetch("SELECT chunk_id FROM chunk_vectors")}


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    deadline = Deadline.after(seconds)
    while not await condition():
        assert not deadline.passed, "it never came true"
        await asyncio.sleep(0.2)


async def same(service: Service, owner: asyncpg.Connection) -> bool:
    copies = list((await there(service)).values())
    marks = await owner.fetchval("SELECT count(*) FROM vector_outbox")
    return marks == 0 and (copies or [set()]) == [await here(owner)]


async def test_the_copy_is_the_rows_after_ingest_update_deletion_and_reweighing(
    hosted: Service, owner: asyncpg.Connection
) -> None:
    await hosted.copilot.ingest("acme", DOCUMENTS[:3])
    assert await same(hosted, owner)
    long = NewDocument("# Long\n\n" + "Backups of every kind. " * 40, "long")
    await hosted.copilot.ingest("acme", [long])  # moves the pinned average: all weights anew
    assert await same(hosted, owner)
    await hosted.copilot.ingest("acme", [replace(DOCUMENTS[0], text="Rule 1 is gone.")])
    await hosted.copilot.documents.delete("acme", "rule-2")
    await until(lambda: same(hosted, owner))
    namespace = await owner.fetchval("SELECT namespace FROM corpora WHERE tenant_id = 'acme'")
    assert set(await there(hosted)) == {namespace}
    assert "acme" not in namespace


async def test_vectors_without_a_commit_are_orphans_that_nobody_sees_and_the_sweep_takes(
    hosted: Service, owner: asyncpg.Connection
) -> None:
    await hosted.copilot.ingest("acme", DOCUMENTS[:2])
    await owner.execute("ALTER TABLE chunks ADD CONSTRAINT closed CHECK (false) NOT VALID")
    with pytest.raises(asyncpg.CheckViolationError):  # the vectors are written, not committed
        await hosted.copilot.ingest("acme", DOCUMENTS[2:])
    await owner.execute("ALTER TABLE chunks DROP CONSTRAINT closed")
    (copied,) = (await there(hosted)).values()
    orphans = copied - await here(owner)
    assert len(orphans) == 4
    found = await hosted.copilot.search("acme", QUESTION, override_config={"top_k": 20})
    assert {str(source.chunk.id) for source in found.results} == await here(owner)
    replication = hosted.copilot._rooms.ingestion._replication
    await replication.sweep()
    assert orphans <= next(iter((await there(hosted)).values())), "its lease still runs"
    await owner.execute("UPDATE vector_outbox SET due_at = now()")  # as when the lease is over
    await until(lambda: same(hosted, owner))
    assert len((await hosted.copilot.search("acme", QUESTION)).results) == 2


async def test_a_store_that_is_away_refuses_an_ingest_and_delays_only_what_is_committed(
    hosted: Service, vendor: RunningProvider, owner: asyncpg.Connection
) -> None:
    await hosted.copilot.ingest("acme", DOCUMENTS[:2])
    vendor.fault("401", path="/vectors/upsert")
    with pytest.raises(RetrievalUnavailable):
        await hosted.copilot.ingest("acme", DOCUMENTS[2:3])
    assert len(await hosted.copilot.documents.list("acme")) == 2
    vendor.fault("401", path="/vectors/delete")
    await hosted.copilot.documents.delete("acme", "rule-1")
    found = await hosted.copilot.search("acme", "Which rule keeps backups for 1 days?")
    assert "rule-1" not in {source.chunk.document_id for source in found.results}
    vendor.fault("normal")
    await owner.execute("UPDATE vector_outbox SET due_at = now()")
    await until(lambda: same(hosted, owner))


async def test_a_tenant_whose_rows_go_leaves_no_namespace(
    hosted: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(hosted, "beta")
    await hosted.copilot.ingest("acme", DOCUMENTS[:2])
    await hosted.copilot.ingest("beta", DOCUMENTS[:1])
    assert len(await there(hosted)) == 2
    for table in ("documents", "corpora", "vector_outbox"):
        await owner.execute(f"DELETE FROM {table} WHERE tenant_id = 'acme'")

    async def only_one() -> bool:
        return len(await there(hosted)) == 1

    await until(only_one)
    assert (await hosted.copilot.search("beta", QUESTION)).results


async def test_another_store_or_embedder_is_refused_at_the_start_until_it_was_reindexed(
    settings: Settings, vendor: RunningProvider, tmp_path: Path
) -> None:
    quiet: Callable[[str, int, int], None] = lambda *_: None  # noqa: E731
    async with open_service(settings) as service:
        await make_customer(service, "acme", config=HYBRID)
        await make_customer(service, "empty")
        await service.copilot.ingest("acme", DOCUMENTS)
        first = await service.copilot.search("acme", QUESTION)
    pinecone = hosted_by(settings, vendor)
    with pytest.raises(SetupError, match="compliance-copilot vectors init"):
        async with open_service(pinecone):
            pass
    await make_index(pinecone)
    with pytest.raises(SetupError, match="compliance-copilot reindex"):
        async with open_service(pinecone):
            pass
    async with open_service(settings) as old:
        async with open_service(pinecone, moving=True) as service:
            assert await service.copilot.reindex("acme", quiet)
            assert not await service.copilot.reindex("acme", quiet)
            assert not await service.copilot.reindex("empty", quiet)
        still = await old.copilot.search("acme", QUESTION)
        assert still.results, "its questions go on: the rows are still here"
        with pytest.raises(RetrievalUnavailable):
            await old.copilot.ingest("acme", [NewDocument("New.", "new")])
    async with open_service(pinecone) as service:
        found = await service.copilot.search("acme", QUESTION)
        assert [(s.chunk.id, s.score) for s in found.results] == [
            (s.chunk.id, s.score) for s in first.results
        ]
        assert (await service.status()).components["vector_store"].status == "ready"
    tiny = make_folder(tmp_path / "tiny")
    other = settings.model_copy(
        update={
            "embedding_provider": "onnx",
            "onnx_model_dir": tiny,
            "pinecone_api_key": pinecone.pinecone_api_key,
            "pinecone_index_name": pinecone.pinecone_index_name,
            "pinecone_controller_host": vendor.url,
        }
    )
    async with open_service(pinecone) as old:
        async with open_service(other, moving=True) as service:
            with pytest.raises(ConnectionAbortedError):
                await service.copilot.reindex("acme", _cut_off)
            assert (await old.copilot.search("acme", QUESTION)).results
            assert await service.copilot.reindex("acme", quiet)
            assert await there(old) == {}, "the namespace that was left is dropped"
        with pytest.raises(RetrievalUnavailable):
            await old.copilot.search("acme", QUESTION)
    async with open_service(other) as service:
        assert (await service.copilot.search("acme", "backups days")).results


def _cut_off(_what: str, done: int, _total: int) -> None:
    assert done
    raise ConnectionAbortedError


def test_a_region_is_read_with_and_without_its_cloud() -> None:
    assert deployment(None)["region"] == "us-east-1"
    assert deployment("us-west1-gcp") == {
        "deployment_type": "managed", "cloud": "gcp", "region": "us-west1",
    }  # fmt: skip
    assert deployment("us-west-2")["cloud"] == "aws"
    assert deployment("us-central1")["cloud"] == "gcp"
    assert deployment("eastus2")["cloud"] == "azure"
