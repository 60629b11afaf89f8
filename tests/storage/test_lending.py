"""A connection that nobody waits for stays at hand; nobody waits behind one that does."""

import asyncio

import pytest

from compliance_copilot.core.errors import StoreUnavailable
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Database

ACME = TenantId("acme")
_PID = "SELECT pg_backend_pid() AS pid"


async def pid(database: Database) -> int:
    return int((await database.call_platform(_PID))[0]["pid"])


async def test_the_next_statement_takes_the_connection_that_is_at_hand(database: Database) -> None:
    first = await pid(database)
    assert database.in_use == 0
    assert {await pid(database) for _ in range(5)} == {first}


async def test_who_waits_is_not_passed_by(database: Database) -> None:
    most = database.connections()["most"]
    naps = [database.call_platform("SELECT pg_sleep(0.05)") for _ in range(3 * most)]
    await asyncio.wait_for(asyncio.gather(*naps), 10)
    told = database.connections()
    assert (told["in_use"], told["idle"]) == (0, most)


async def test_a_connection_that_was_ended_meanwhile_is_not_lent(database: Database) -> None:
    ended = await pid(database)
    async with database.own_connection() as beside:
        await beside.execute("SELECT pg_terminate_backend($1)", ended)
    await asyncio.sleep(0.2)
    assert await pid(database) != ended


async def test_a_statement_that_fails_leaves_a_connection_that_works(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.transaction(ACME) as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    async with database.transaction(ACME) as connection:
        assert await connection.fetchval("SELECT current_setting('app.tenant_id')") == ACME
    assert (await database.call_platform("SELECT current_setting('app.tenant_id', true) AS t"))[0][
        "t"
    ] in (None, "")
