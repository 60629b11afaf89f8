"""Connections lent from the pool, and taken back even when their server has fallen silent.

Work that is cut off (its time is over, its caller has left) waits for nothing more: its connection
is rolled back beside it, and dropped when the server does not confirm that in time. Connections
that nobody waits for stay at hand, as many as a burst of questions uses: the pool makes a task to
take one back. What is beyond them it closes when it is idle.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, TypeAlias

import asyncpg

from compliance_copilot.core.clock import Deadline

Connection: TypeAlias = Any  # asyncpg's pool proxy, untyped in the driver

_CONFIRM_SECONDS = 1.0
_MOST_AT_HAND = 6
_BROKEN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Lending:
    """Lends the connections of one pool."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._parting: set[asyncio.Task[None]] = set()
        self._at_hand: list[Connection] = []
        self.waiting = 0
        """How many wait for a connection."""

    def connection(self, deadline: Deadline) -> "_Loan":
        """Return a context that lends a connection."""
        return _Loan(self, deadline)

    async def lend(self, deadline: Deadline) -> Connection:
        """Lend a connection as soon as there is one. Raises TimeoutError."""
        return self._kept() or await self._acquired(deadline)

    async def take_back(self, connection: Connection) -> None:
        """Take back a connection whose work has come to its end, well or not."""
        if not self.waiting and len(self._at_hand) < _MOST_AT_HAND and _is_open(connection):
            self._at_hand.append(connection)
        else:
            await self._pool.release(connection)

    def part(self, connection: Connection) -> None:
        """Take back, beside, a connection whose work was cut off."""
        task = asyncio.create_task(self._part(connection), name="parting")
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)

    @property
    def at_hand(self) -> int:
        """How many connections are with nobody, though not in the pool."""
        return len(self._at_hand)

    async def close(self) -> None:
        """Give the pool back what is at hand."""
        while self._at_hand:
            await self._pool.release(self._at_hand.pop())

    def _kept(self) -> Connection | None:
        while self._at_hand:
            if _is_open(connection := self._at_hand.pop()):
                return connection
        return None

    async def _acquired(self, deadline: Deadline) -> Connection:
        self.waiting += 1
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                return await self._pool.acquire()
        finally:
            self.waiting -= 1

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


def _is_open(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # it was lost, and the pool has taken it back itself
        return False


class _Loan:
    """The context of one connection."""

    __slots__ = ("_connection", "_deadline", "_lending")

    def __init__(self, lending: Lending, deadline: Deadline) -> None:
        self._lending = lending
        self._deadline = deadline

    async def __aenter__(self) -> Connection:
        self._connection = await self._lending.lend(self._deadline)
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, asyncio.CancelledError | TimeoutError):
            self._lending.part(self._connection)
        else:
            await self._lending.take_back(self._connection)


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
