"""What the ledger costs: admissions + settlements per second beside a bare SELECT 1, same pool.

Answers at hand are settled by their admission. CPU is that of all processes of the database.

python -m benchmarks.admission [--seconds 10] [--tenants 100] [--at-once 8]
"""

import argparse
import asyncio
import random
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.harness import ROOT, UNLIMITED, Base, open_base
from benchmarks.processes import used_by
from compliance_copilot.billing.journal import Journal
from compliance_copilot.billing.metering import Meter, Metering, Settlement
from compliance_copilot.billing.prices import load_price_book
from compliance_copilot.core.clock import new_id
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
from compliance_copilot.tenancy.admission import Admission, Ask, Ready
from compliance_copilot.tenancy.tenants import NewTenant, TenantStore

MODEL = "gpt-4.1"
USED = Settlement("answered", provider="openai", model=MODEL, usage=Usage(1000, 100))
FOUND = Settlement("answered", provider="local", model="extractive")
WORDS = [f"{secrets.token_hex(2 + n % 4)} " for n in range(800)]
Work = Callable[[TenantId], Awaitable[object]]


async def run(seconds: float, tenants: int, at_once: int) -> None:
    async with open_base() as base, open_database(base.serving, max_connections=10) as database:
        ids = [TenantId(f"tenant-{number:03}") for number in range(tenants)]
        many = {**UNLIMITED, "monthly_budget_usd": 1e6, "max_queries_per_hour": 10**6}
        for tenant in ids:
            await TenantStore(database).create(NewTenant(tenant, tenant, {}, many), set_by="bench")
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder))
            work, at_hand = _pair(database, journal), _at_hand(database, journal)
            bare = _bare(database)
            print(f"{tenants} tenants, {at_once} at once, pool of 10, durable commits")
            for name, what, whom in (
                ("SELECT 1", bare, ids),
                ("admission + settlement", work, ids),
                ("admission + settlement, one tenant", work, ids[:1]),
                ("an answer of 4 KB at hand", at_hand, ids),
            ):
                await _measured("", what, whom, (1.0, at_once), None)
                await _measured(name, what, whom, (seconds, at_once), base)
            journal.close()


def _bare(database: Database) -> Work:
    async def select(_: TenantId) -> object:
        return await database.call_platform("SELECT 1")

    return select


def _ledger(database: Database, journal: Journal) -> tuple[Admission, Metering]:
    book = load_price_book(ROOT / "configs" / "prices.toml")
    admission = Admission(
        database, EffectiveConfig(), ResourceLimits(), partial(bring_into_force, database)
    )
    return admission, Metering(database, book, journal)


def _pair(database: Database, journal: Journal) -> Work:
    admission, metering = _ledger(database, journal)
    wanted = Reservation("openai", MODEL, metering.prices.version, 50_000)

    async def pair(tenant: TenantId) -> None:
        permit = await admission.admit(tenant, Ask(Operation.QUERY, lambda _: wanted, 30.0))
        assert isinstance(permit, Permit)
        await Meter(metering, permit).settle(USED)

    return pair


def _at_hand(database: Database, journal: Journal) -> Work:
    admission, metering = _ledger(database, journal)
    free = Reservation("local", "extractive", metering.prices.version, 0)

    async def one(tenant: TenantId) -> None:
        ask = Ask(Operation.QUERY, lambda _: free, 30.0, request_id=new_id())
        draft = admission.drafted(tenant, ask)
        if draft is not None:
            reply = {"answer": "".join(random.choices(WORDS, k=500)), "sources": []}
            settlement = Meter(metering, draft.permit).prepared(FOUND, reply=reply)
            ask = replace(ask, ready=Ready(draft.config_version, 0, settlement))
        permit = await admission.admit(tenant, ask)
        assert isinstance(permit, Permit)
        if not permit.settled:  # the first of its tenant, whose configuration was not known
            await Meter(metering, permit).settle(FOUND)

    return one


async def _measured(
    name: str, work: Work, tenants: list[TenantId], bounds: tuple[float, int], base: Base | None
) -> None:
    seconds, at_once = bounds
    numbers, taken = count(), []
    cpu_seconds = used_by(base.pid).cpu_seconds if base else 0.0
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (began := time.perf_counter()) < end:
            await work(tenants[next(numbers) % len(tenants)])
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one() for _ in range(at_once)))
    if base is None:
        return
    cpu_ms = (used_by(base.pid).cpu_seconds - cpu_seconds) / len(taken) * 1000
    taken.sort()
    p50, p99 = (taken[int(len(taken) * part)] * 1000 for part in (0.5, 0.99))
    print(
        f"{name:<36} {len(taken) / seconds:8.0f}/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   "
        f"CPU {cpu_ms:.2f} ms"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    asyncio.run(run(options.seconds, options.tenants, options.at_once))
