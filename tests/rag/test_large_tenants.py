"""A large tenant has an index of its own: near the exact search, and gone when not needed."""

import numpy as np

from compliance_copilot.adapters.corpus_files import CorpusFiles
from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.ports import HybridQuery
from compliance_copilot.settings import Settings
from compliance_copilot.storage.database import Database
from compliance_copilot.storage.large_tenants import index_large_tenants
from tests.conftest import Server, make_customer

ACME = TenantId("acme")


async def changes(server: Server, database_name: str, min_chunks: int) -> list[tuple[str, str]]:
    dsn = server.owner_dsn(database_name)
    found = []
    async for changed in index_large_tenants(dsn, min_chunks=min_chunks):
        found.append((changed.tenant_id, changed.state))
        assert changed.recall is None or changed.recall > 0.95
    return found


async def test_large_tenants_get_an_index_of_their_own_and_lose_it_again(
    service: Service, server: Server, database: Database, database_name: str, settings: Settings
) -> None:
    for tenant_id, rules in (("acme", 150), ("beta", 3)):
        await make_customer(service, tenant_id)
        text = "\n\n".join(
            f"## {n}. Rule\n\nRule {n} of {tenant_id}: " + f"item{n * 7} part{n * 3} " * 30
            for n in range(rules)
        )
        await service.copilot.ingest(tenant_id, [NewDocument(text, "rules")])
    index = PgvectorIndex(database)
    vector = np.random.default_rng(3).normal(size=256).astype(np.float32)
    vector /= np.linalg.norm(vector)

    async def nearest() -> list[tuple[object, float]]:
        query = HybridQuery(vector)
        found = await index.search(ACME, query, limit=10, deadline=Deadline.after(60))
        return list(found.dense)

    exact = await nearest()
    assert await changes(server, database_name, 100) == [("acme", "made")]
    assert await changes(server, database_name, 100) == []
    by_index = await nearest()
    assert len({i for i, _ in exact} & {i for i, _ in by_index}) >= 9
    assert dict(by_index).items() <= dict(await nearest()).items()

    # Dense search alone goes the same way whether or not the corpus is mapped.
    hot = HotIndex(index, database, CorpusFiles(settings.data_dir / "hot", 10**8))
    async with database.transaction(ACME) as connection:
        version = await connection.fetchval("SELECT version FROM corpora")
    for terms, path in (({}, "sql"), ({5: 1}, "hot")):
        query = HybridQuery(vector, terms, version)
        await hot.search(ACME, query, limit=10, deadline=Deadline.after(60))
        await hot.settled()
        found = await hot.search(ACME, query, limit=10, deadline=Deadline.after(60))
        assert found.path == path
    await hot.close()

    # A retired version is in the index and in no result.
    await service.copilot.ingest("acme", [NewDocument("# One\n\nOne rule is left.", "rules")])
    assert len(await nearest()) == 1
    assert await changes(server, database_name, 100) == [("acme", "dropped")]
    assert len(await nearest()) == 1
