"""Exactly as many as allowed, and nobody waits for another in a circle."""

import asyncio
import random

import asyncpg
import pytest

from compliance_copilot.billing.metering import Settlement
from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import BudgetExhausted, InvalidRequest, LimitReached
from compliance_copilot.core.vocabulary import Permit, Reservation, TenantId, Usage
from tests.ledger.conftest import MODEL, PRICES, RESERVED, Books, expire_leases, gather_all

USED = Settlement("answered", provider="openai", model=MODEL, usage=Usage(1000, 100))


def admitted(results: list[object]) -> list[Permit]:
    unexpected = [r for r in results if not isinstance(r, Permit | LimitReached)]
    assert unexpected == []
    return [r for r in results if isinstance(r, Permit)]


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_queries_per_hour", 20), ("requests_per_minute", 20), ("max_concurrent_requests", 20)],
)
async def test_two_workers_admit_together_exactly_as_many_as_allowed(
    books: Books, other_books: Books, limit: str, value: int
) -> None:
    tenant = await books.tenant("alpha", **{limit: value})
    asks = [b.admit(tenant) for b in (books, other_books) for _ in range(40)]
    assert len(admitted(await gather_all(*asks))) == value
    with pytest.raises(LimitReached) as refused:
        await other_books.admit(tenant)
    assert refused.value.facts["limit"] == limit
    assert refused.value.facts["remaining"] == 0
    assert refused.value.facts["retry_after_seconds"] >= 1


async def test_a_budget_is_never_overdrawn_by_requests_at_the_same_time(
    books: Books, other_books: Books
) -> None:
    tenant = await books.tenant("alpha", monthly_budget_usd=10 * RESERVED / 1_000_000)
    results = await gather_all(*[b.admit(tenant) for b in (books, other_books) for _ in range(30)])
    assert len(admitted(results)) == 10
    refused = next(r for r in results if isinstance(r, LimitReached))
    assert isinstance(refused, BudgetExhausted)
    assert await books.differences(tenant) == []


async def test_money_that_was_held_and_not_used_is_free_again(books: Books) -> None:
    tenant = await books.tenant("alpha", monthly_budget_usd=RESERVED / 1_000_000)
    meter = await books.meter(tenant)
    with pytest.raises(BudgetExhausted):
        await books.admit(tenant)
    await meter.settle(meter.failed("cancelled"))
    assert isinstance(await books.admit(tenant), Permit)


async def test_a_killed_worker_frees_its_places_when_the_lease_ends(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha", max_concurrent_requests=1)
    await books.admit(tenant)
    with pytest.raises(LimitReached):
        await books.admit(tenant)
    await expire_leases(owner, tenant)
    assert isinstance(await books.admit(tenant), Permit)


async def test_an_admitted_request_is_told_when_room_comes_back(books: Books) -> None:
    tenant = await books.tenant("alpha", max_queries_per_hour=3)
    first = await books.admit(tenant)
    assert isinstance(first, Permit)
    assert (first.quota, first.remaining) == (3, 2)
    assert first.reset_seconds is not None
    assert 3600 <= first.reset_seconds <= 3661


async def test_admissions_settlements_retries_and_sweeps_never_lock_one_another_out(
    books: Books, other_books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha", monthly_budget_usd=1_000.0)
    await owner.execute("SET deadlock_timeout = '100ms'")
    choice = random.Random(7)  # noqa: S311 - not a secret

    async def one(who: Books) -> None:
        meter = await who.meter(tenant)
        meter.sent = True
        kind = choice.randrange(4)
        if kind == 0:
            await meter.next_attempt(USED, Reservation("openai", MODEL, PRICES.version, RESERVED))
        if kind == 1:
            refused = Settlement(InvalidRequest.code, state="released", uncounted=True)
            await meter.settle(refused)
        await meter.settle(USED)

    async def sweep_on() -> None:
        for _ in range(30):
            await other_books.database.call(tenant, "SELECT end_leases($1)")
            await books.database.call(tenant, "SELECT * FROM usage_summary($1, now(), now())")

    results = await gather_all(
        *[one(b) for b in (books, other_books) for _ in range(150)], sweep_on()
    )
    assert [r for r in results if r is not None] == []
    assert await books.differences(tenant) == []
    deadlocks = await owner.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks == 0


async def test_sums_that_went_wrong_are_found_and_rebuilt(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    meters = [await books.meter(tenant) for _ in range(4)]
    await asyncio.gather(*(meter.settle(USED) for meter in meters[:3]))
    assert await books.differences(tenant) == []
    await owner.execute("UPDATE spend_months SET settled_micro_usd = settled_micro_usd + 1")
    await owner.execute("UPDATE usage_hours SET queries = queries - 1")
    assert {row["sums"] for row in await books.differences(tenant)} == {
        "spend_months", "usage_hours",
    }  # fmt: skip
    await books.database.call(tenant, "SELECT rebuild_sums($1)")
    assert await books.differences(tenant) == []


async def test_one_tenants_sums_are_rebuilt_without_touching_anothers(books: Books) -> None:
    for name in ("alpha", "beta"):
        await (await books.meter(await books.tenant(name))).settle(USED)
    await books.database.call(TenantId("alpha"), "SELECT rebuild_sums($1)")
    assert await books.differences(TenantId("alpha")) == []
    assert await books.differences(TenantId("beta")) == []


async def test_a_row_whose_provider_is_unknown_does_not_stop_the_sweep(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    await owner.execute(
        "INSERT INTO usage_events (tenant_id, request_id, attempt, operation, price_version,"
        " lease_expires_at) VALUES ($1, $2, 1, 'search', 'v', now())",
        tenant, new_id(),
    )  # fmt: skip
    ended = await books.database.call(tenant, "SELECT end_leases($1) AS ended")
    assert ended[0]["ended"] == 1
    assert await books.differences(tenant) == []
