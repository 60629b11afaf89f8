"""A tenant, the two steps of the ledger around it, and a database that is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from compliance_copilot.billing.journal import Journal
from compliance_copilot.billing.metering import Meter, Metering
from compliance_copilot.billing.prices import load_price_book
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    IdempotencyClaim,
    Operation,
    Permit,
    Replay,
    Reservation,
    ResourceLimits,
    TenantId,
)
from compliance_copilot.rag.statistics import bring_into_force
from compliance_copilot.settings import PROJECT_ROOT
from compliance_copilot.storage.database import Database, open_database
from compliance_copilot.tenancy.admission import Admission, Ask
from compliance_copilot.tenancy.tenants import NewTenant, TenantStore

PRICES = load_price_book(PROJECT_ROOT / "configs" / "prices.toml")
MODEL = "gpt-4.1"
RESERVED = 50_000
UNLIMITED = {
    "max_queries_per_hour": None,
    "requests_per_minute": None,
    "max_concurrent_requests": None,
}


@dataclass
class Books:
    """Admission and metering of one process."""

    database: Database
    admission: Admission
    metering: Metering
    journal: Journal

    async def tenant(self, tenant_id: str, **limits: Any) -> TenantId:
        new = NewTenant(tenant_id, tenant_id, {}, {**UNLIMITED, **limits})
        await TenantStore(self.database).create(new, set_by="test")
        return TenantId(tenant_id)

    async def admit(
        self,
        tenant_id: TenantId,
        *,
        provider: str = "openai",
        claim: IdempotencyClaim | None = None,
        seconds: float = 30.0,
    ) -> Permit | Replay:
        hosted = provider != "local"
        micro_usd = RESERVED if hosted else 0
        wanted = Reservation(
            provider, MODEL if hosted else "extractive-1", PRICES.version, micro_usd
        )
        ask = Ask(Operation.QUERY, lambda _: wanted, seconds, idempotency=claim)
        return await self.admission.admit(tenant_id, ask)

    async def meter(self, tenant_id: TenantId, **options: Any) -> Meter:
        permit = await self.admit(tenant_id, **options)
        assert isinstance(permit, Permit)
        return Meter(self.metering, permit)

    async def differences(self, tenant_id: TenantId) -> list[Any]:
        return await self.database.call(tenant_id, "SELECT * FROM verify_sums($1)")


@asynccontextmanager
async def open_books(dsn: str, folder: Path) -> AsyncIterator[Books]:
    async with open_database(dsn, max_connections=8) as database:
        journal = Journal(folder / "journal")
        metering = Metering(database, PRICES, journal)
        admission = Admission(
            database, EffectiveConfig(), ResourceLimits(), partial(bring_into_force, database)
        )
        try:
            yield Books(database, admission, metering, journal)
        finally:
            await metering.drain()
            journal.close()


async def closed_database(dsn: str) -> Database:
    """A database that has gone away: every call of it fails as an outage does."""
    async with open_database(dsn, max_connections=1) as database:
        pass
    return database


async def expire_leases(owner: asyncpg.Connection, tenant_id: str) -> None:
    await owner.execute(
        "UPDATE usage_events SET lease_expires_at = now() - interval '1 second'"
        " WHERE tenant_id = $1 AND state = 'reserved'",
        tenant_id,
    )


@pytest.fixture
async def books(server: Any, database_name: str, tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(server.serving_dsn(database_name), tmp_path) as books:
        yield books


@pytest.fixture
async def other_books(server: Any, database_name: str, tmp_path: Path) -> AsyncIterator[Books]:
    """A second worker: its own pool, its own snapshots, the same database."""
    async with open_books(server.serving_dsn(database_name), tmp_path) as books:
        yield books


@pytest.fixture
async def away(server: Any, database_name: str, books: Books) -> Metering:
    """Metering of the same process while its database is away; the journal is the same."""
    database = await closed_database(server.serving_dsn(database_name))
    return Metering(database, PRICES, books.journal)


async def gather_all(*works: Any) -> list[Any]:
    return await asyncio.gather(*works, return_exceptions=True)
