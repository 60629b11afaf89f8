"""A tenant's burst leaves connections for the others."""

import asyncio

import pytest

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Database

NOISY, QUIET = TenantId("noisy"), TenantId("quiet")


async def test_a_tenant_with_a_burst_never_takes_the_whole_pool(database: Database) -> None:
    release, held = asyncio.Event(), 0

    async def hold() -> None:
        nonlocal held
        async with database.transaction(NOISY):
            held += 1
            await release.wait()

    burst = [asyncio.create_task(hold()) for _ in range(20)]
    assert not database.is_crowded()
    while held < 2:  # noqa: ASYNC110 - half of the pool; two tasks move it
        await asyncio.sleep(0.01)
    for _ in range(3):
        async with database.transaction(QUIET) as connection:
            assert await connection.fetchval("SELECT 1") == 1
    assert held == 2
    release.set()
    await asyncio.gather(*burst)
    assert held == 20
    assert database._slots._rooms == {}


async def test_a_burst_that_is_cancelled_gives_its_slots_back(database: Database) -> None:
    async def hold() -> None:
        async with database.transaction(NOISY):
            await asyncio.sleep(60)

    burst = [asyncio.create_task(hold()) for _ in range(8)]
    await asyncio.sleep(0.05)
    for task in burst:
        task.cancel()
    await asyncio.gather(*burst, return_exceptions=True)
    async with database.transaction(NOISY) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert database._slots._rooms == {}


async def test_those_who_wait_for_a_connection_are_a_crowd_and_those_for_their_slot_are_none(
    database: Database,
) -> None:
    release, held = asyncio.Event(), 0

    async def hold(tenant_id: TenantId) -> None:
        nonlocal held
        async with database.transaction(tenant_id):
            held += 1
            await release.wait()

    of_one = [asyncio.create_task(hold(NOISY)) for _ in range(20)]
    while held < 2:  # noqa: ASYNC110 - two tasks move it
        await asyncio.sleep(0.01)
    assert not database.is_crowded()
    of_many = [asyncio.create_task(hold(TenantId(f"tenant{n}"))) for n in range(12)]
    while held < 4:  # noqa: ASYNC110 - the pool of four
        await asyncio.sleep(0.01)
    assert database.is_crowded()
    release.set()
    await asyncio.gather(*of_one, *of_many)
    assert not database.is_crowded()


async def test_those_who_wait_behind_their_own_tenant_are_a_queue(database: Database) -> None:
    release, held = asyncio.Event(), 0

    async def hold() -> None:
        nonlocal held
        async with database.transaction(NOISY):
            held += 1
            await release.wait()

    few = [asyncio.create_task(hold()) for _ in range(6)]
    while held < 2:  # noqa: ASYNC110 - two tasks move it
        await asyncio.sleep(0.01)
    assert not database.is_queueing()
    many = [asyncio.create_task(hold()) for _ in range(6)]
    await asyncio.sleep(0.01)
    assert database.is_queueing()
    assert not database.is_crowded()
    release.set()
    await asyncio.gather(*few, *many)
    assert not database.is_queueing()


@pytest.mark.parametrize("holders", [[NOISY, NOISY], [TenantId("one"), TenantId("two")] * 2])
async def test_who_waits_for_a_slot_or_a_connection_waits_until_its_deadline(
    database: Database, holders: list[TenantId]
) -> None:
    release, held = asyncio.Event(), 0

    async def hold(tenant_id: TenantId) -> None:
        nonlocal held
        async with database.transaction(tenant_id):
            held += 1
            await release.wait()

    async def asked(deadline: Deadline) -> str:
        return str((await database.call(NOISY, "SELECT $1 AS t", deadline=deadline))[0]["t"])

    holding = [asyncio.create_task(hold(tenant_id)) for tenant_id in holders]
    while held < len(holders):  # noqa: ASYNC110 - the tasks move it
        await asyncio.sleep(0.01)
    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(15):
            await asked(Deadline.after(0.05))
    patient = asyncio.create_task(asked(Deadline.after(20)))
    await asyncio.sleep(0.05)
    release.set()
    assert await patient == NOISY
    await asyncio.gather(*holding)
    assert database._slots._rooms == {}
    assert database._lending.waiting == 0


async def test_a_statement_that_takes_too_long_leaves_a_connection_that_works(
    database: Database,
) -> None:
    with pytest.raises(DeadlineExceeded):
        await database.call_platform("SELECT pg_sleep(20)", deadline=Deadline.after(0.05))
    while database.in_use:  # noqa: ASYNC110 - the pool has no event for it
        await asyncio.sleep(0.02)
    rows = await database.call_platform("SELECT 1 AS one", deadline=Deadline.after(20))
    assert rows[0]["one"] == 1
