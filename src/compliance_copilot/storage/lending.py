"""Connections lent from the pool, and taken back even when their server has fallen silent.

Work that is cut off (its time is over, its caller has left) waits for nothing more: its connection
is rolled back beside it, and dropped when the server does not confirm that in time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = Any  # asyncpg's pool proxy, untyped in the driver

_CONFIRM_SECONDS = 1.0
_BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Lending:
    """Lends the connections of one pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._parting: set[asyncio.Task[None]] = set()
        self.waiting = 0
        """How many wait for a connection."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection while the block lasts."""
        self.waiting += 1
        try:
            connection = await self._pool.acquire()
        finally:
            self.waiting -= 1
        cut_off = False
        try:
            yield connection
        except asyncio.CancelledError:
            cut_off = True
            raise
        finally:
            if cut_off:
                task = asyncio.create_task(self._part(connection), name="parting")
                self._parting.add(task)
                task.add_done_callback(self._parting.discard)
            else:
                await self._pool.release(connection)

    async def _part(self, connection: Connection) -> None:
        """Take back a connection whose statement was cut off, or drop it."""
        try:
            with suppress(*_BROKEN):  # a TimeoutError is an OSError
                async with asyncio.timeout(_CONFIRM_SECONDS):
                    if not connection.is_in_transaction():
                        # Waits until the cut-off statement has ended; it may have been a BEGIN.
                        await connection.execute("SELECT")
                    if connection.is_in_transaction():
                        await connection.execute("ROLLBACK")
                    await self._pool.release(connection)
                    return
        finally:
            with suppress(asyncpg.InterfaceError):  # it is back in the pool
                connection.terminate()


@asynccontextmanager
async def transacted(connection: Connection) -> AsyncIterator[None]:
    """Run the block in a transaction; one that is cut off is ended by who lent the connection."""
    await connection.execute("BEGIN")
    try:
        yield
    except asyncio.CancelledError:
        raise
    except BaseException:
        await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
