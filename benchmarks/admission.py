"""What the ledger costs: admissions + settlements per second beside a bare SELECT 1, same pool.

python -m benchmarks.admission [--seconds 10] [--tenants 100] [--at-once 8]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.harness import ROOT, UNLIMITED, open_base
from compliance_copilot.billing.journal import Journal
from compliance_copilot.billing.metering import Meter, Metering, Settlement
from compliance_copilot.billing.prices import load_price_book
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    Operation,
    Permit,
    Reservation,
    ResourceLimits,
    TenantId,
    Usage,
)
from compliance_copilot.rag.statistics import bring_into_force
from compliance_copilot.storage.database import Database, open_database
from compliance_copilot.tenancy.admission import Admission, Ask
from compliance_copilot.tenancy.tenants import NewTenant, TenantStore

MODEL = "gpt-4.1"
USED = Settlement("answered", provider="openai", model=MODEL, usage=Usage(1000, 100))
Work = Callable[[TenantId], Awaitable[object]]


async def run(seconds: float, tenants: int, at_once: int) -> None:
    async with open_base() as base, open_database(base.serving, max_connections=10) as database:
        ids = [TenantId(f"tenant-{number:03}") for number in range(tenants)]
        many = {**UNLIMITED, "monthly_budget_usd": 1e6, "max_queries_per_hour": 10**6}
        for tenant in ids:
            await TenantStore(database).create(NewTenant(tenant, tenant, {}, many), set_by="bench")
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder))
            work = _pair(database, journal)
            bare = _bare(database)
            print(f"{tenants} tenants, {at_once} at once, pool of 10, durable commits")
            for name, what, whom in (
                ("SELECT 1", bare, ids),
                ("admission + settlement", work, ids),
                ("admission + settlement, one tenant", work, ids[:1]),
            ):
                await _measured(f"{name}, warming", what, whom, (1.0, at_once), told=False)
                await _measured(name, what, whom, (seconds, at_once), told=True)
            journal.close()


def _bare(database: Database) -> Work:
    async def select(_: TenantId) -> object:
        return await database.call_platform("SELECT 1")

    return select


def _pair(database: Database, journal: Journal) -> Work:
    book = load_price_book(ROOT / "configs" / "prices.toml")
    metering = Metering(database, book, journal)
    admission = Admission(
        database, EffectiveConfig(), ResourceLimits(), partial(bring_into_force, database)
    )
    wanted = Reservation("openai", MODEL, book.version, 50_000)

    async def pair(tenant: TenantId) -> None:
        permit = await admission.admit(tenant, Ask(Operation.QUERY, lambda _: wanted, 30.0))
        assert isinstance(permit, Permit)
        await Meter(metering, permit).settle(USED)

    return pair


async def _measured(
    name: str, work: Work, tenants: list[TenantId], bounds: tuple[float, int], *, told: bool
) -> None:
    seconds, at_once = bounds
    numbers, taken = count(), []
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < end:
            await work(tenants[next(numbers) % len(tenants)])
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(at_once)))
    taken.sort()
    p50, p99 = (taken[int(len(taken) * part)] * 1000 for part in (0.5, 0.99))
    if told:
        print(f"{name:<36} {len(taken) / seconds:8.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    asyncio.run(run(options.seconds, options.tenants, options.at_once))
