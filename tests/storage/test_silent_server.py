"""A database that says nothing any more: nobody waits beyond the deadline, no connection leaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded
from compliance_copilot.storage.database import Database, open_database
from tests.conftest import PASSWORD, ROLE
from tests.standins.tunnel import Tunnel, open_tunnel

HANGS_SECONDS = 15.0  # the default of work without a deadline is twice as long
Work = Callable[[Database, Deadline, Callable[[], None]], Awaitable[object]]


async def called(database: Database, deadline: Deadline, silence: Callable[[], None]) -> object:
    silence()
    return await database.call("acme", "SELECT $1::text", deadline=deadline)


async def transacted(database: Database, deadline: Deadline, silence: Callable[[], None]) -> object:
    async with database.transaction("acme", deadline=deadline) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        silence()
        return await connection.fetchval("SELECT 1")


async def committed(database: Database, deadline: Deadline, silence: Callable[[], None]) -> object:
    async with database.transaction("acme", deadline=deadline) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(2)")
        silence()
    return None


async def at_rest(database: Database) -> None:
    while database.in_use:  # noqa: ASYNC110 - the pool has no event for it
        await asyncio.sleep(0.02)


@asynccontextmanager
async def tunnelled(owner: asyncpg.Connection) -> AsyncIterator[tuple[Tunnel, Database]]:
    place = await owner.fetchrow(
        "SELECT inet_server_port() AS port, current_setting('port') AS number,"
        " current_setting('unix_socket_directories') AS folder, current_database() AS name"
    )
    target = place["port"] or f"{place['folder']}/.s.PGSQL.{place['number']}"
    async with open_tunnel(target) as tunnel:
        dsn = f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{tunnel.port}/{place['name']}"
        async with open_database(f"{dsn}?sslmode=disable", max_connections=2) as database:
            yield tunnel, database


@pytest.mark.parametrize("work", [called, transacted, committed])
async def test_work_ends_by_its_deadline_and_the_pool_is_whole_again(
    work: Work, owner: asyncpg.Connection
) -> None:
    async with tunnelled(owner) as (tunnel, database):
        for _ in range(4):  # more than the pool has connections
            with pytest.raises(DeadlineExceeded):
                async with asyncio.timeout(HANGS_SECONDS):
                    await work(database, Deadline.after(0.3), tunnel.blacken)
        tunnel.clear()
        async with asyncio.timeout(HANGS_SECONDS):
            await asyncio.gather(
                *(work(database, Deadline.after(HANGS_SECONDS), lambda: None) for _ in range(4))
            )
            await at_rest(database)


async def test_work_that_is_cut_off_is_rolled_back_and_its_connection_stays(
    database: Database, owner: asyncpg.Connection
) -> None:
    pids = set()

    async def slept() -> None:
        async with database.transaction("acme", deadline=Deadline.after(0.3)) as connection:
            pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SELECT pg_advisory_xact_lock(3), pg_sleep(60)")

    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await slept()
        async with asyncio.timeout(HANGS_SECONDS):
            await owner.execute("SELECT pg_advisory_lock(3)")
            await owner.execute("SELECT pg_advisory_unlock(3)")
            await at_rest(database)
    assert len(pids) == 1


async def test_a_connection_whose_server_fell_silent_is_not_at_hand(
    owner: asyncpg.Connection,
) -> None:
    async with tunnelled(owner) as (tunnel, database):
        await called(database, Deadline.after(HANGS_SECONDS), lambda: None)
        assert database._lending.at_hand == 1
        with pytest.raises(DeadlineExceeded):
            await called(database, Deadline.after(0.3), tunnel.blacken)
        assert database._lending.at_hand == 0
