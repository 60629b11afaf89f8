"""One PostgreSQL for the session, a migrated template database, a clone of it for each test."""

import gc
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings, load_settings, read_variable
from compliance_copilot.storage import migrations
from compliance_copilot.storage.database import Database, open_database
from compliance_copilot.storage.embedded import open_embedded
from compliance_copilot.storage.migrations.routines import SEARCH_PATH
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_service
from tests.places import quick_place
from tests.standins.running import RunningProvider, running_provider

ROLE = "copilot_test"
PASSWORD = "only-for-tests"
ADMIN_KEY = "an-admin-key-for-tests-of-40-characters!"
TEMPLATE = f"copilot_template_{uuid4().hex[:8]}"
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections: they take a quarter of the time."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Server:
    """A server for tests: the owner's address, from which all others are made."""

    owner: str

    def owner_dsn(self, database: str) -> str:
        return urlsplit(self.owner)._replace(path=f"/{database}").geturl()

    def serving_dsn(self, database: str) -> str:
        parts = urlsplit(self.owner_dsn(database))
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=f"{ROLE}:{PASSWORD}@{host}").geturl()

    async def administer(self, statement: str) -> None:
        connection = await asyncpg.connect(self.owner)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server() -> AsyncIterator[Server]:
    """`TEST_DATABASE_URL` (an owner's address), or an embedded server without fsync."""
    async with AsyncExitStack() as stack:
        owner = read_variable("TEST_DATABASE_URL")
        if owner is None:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="cc-test-", dir=quick_place())
            )
            embedded = await stack.enter_async_context(open_embedded(Path(folder), options=FAST))
            owner = embedded.dsn(embedded.superuser, "postgres")
        server = Server(owner)
        await server.administer(f"CREATE DATABASE {TEMPLATE}")
        await migrations.migrate(server.owner_dsn(TEMPLATE), role=ROLE, password=PASSWORD)
        yield server
        await server.administer(f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture
async def database_name(server: Server) -> AsyncIterator[str]:
    """A fresh, migrated, empty database."""
    name = f"copilot_{uuid4().hex[:12]}"
    await server.administer(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield name
    await server.administer(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(server: Server, database_name: str) -> AsyncIterator[Database]:
    """The serving role's pool on a fresh database."""
    async with open_database(server.serving_dsn(database_name), max_connections=4) as database:
        yield database


@pytest.fixture
async def owner(server: Server, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to the same database: it sees behind row-level security."""
    path = {"search_path": SEARCH_PATH}
    connection = await asyncpg.connect(server.owner_dsn(database_name), server_settings=path)
    yield connection
    await connection.close()


@pytest.fixture
def settings(server: Server, database_name: str, tmp_path: Path) -> Settings:
    """Settings of a service on the fresh database, without examples."""
    return load_settings(
        environment="test",
        database_url=server.serving_dsn(database_name),
        database_owner_url=server.owner_dsn(database_name),
        data_dir=tmp_path / "data",
        admin_api_key=ADMIN_KEY,
        database_pool_size=4,
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    """A whole service, without HTTP."""
    async with open_service(settings) as service:
        yield service


@pytest.fixture(scope="session")
def shared_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    """One stand-in for OpenAI and Anthropic; its log holds the calls of all tests."""
    with running_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def provider(shared_provider: RunningProvider) -> Iterator[RunningProvider]:
    """The shared stand-in, without faults before and after."""
    shared_provider.fault("normal")
    yield shared_provider
    shared_provider.fault("normal")


@dataclass(frozen=True)
class Customer:
    """A tenant made for a test, and its first key."""

    tenant_id: TenantId
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


async def make_customer(
    service: Service, tenant_id: str, *, config: dict | None = None, limits: dict | None = None
) -> Customer:
    """Create a tenant with its first key; without rate limits unless they are given."""
    unlimited = {
        "max_queries_per_hour": None,
        "requests_per_minute": None,
        "max_concurrent_requests": None,
    }
    new = NewTenant(tenant_id, tenant_id.title(), config or {}, {**unlimited, **(limits or {})})
    tenant, key = await service.tenants.create(new, set_by="test")
    assert key is not None
    return Customer(tenant.tenant_id, key.secret)
