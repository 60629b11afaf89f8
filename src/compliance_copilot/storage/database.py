"""The pool and the two ways through it: one statement, or one transaction, always in a tenant.

The tenant is set with `set_config('app.tenant_id', $1, true)`, so it ends with its transaction.
Work that belongs to no tenant (directory, system state) uses the `platform` pair and sees no row
of any tenant.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, LiteralString, TypeAlias

import asyncpg

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage import audit, vectors
from compliance_copilot.storage.failures import NAMED_FAILURES, UNREACHABLE
from compliance_copilot.storage.lending import Connection as Connection
from compliance_copilot.storage.lending import Lending, transacted
from compliance_copilot.storage.migrations.routines import SEARCH_PATH
from compliance_copilot.storage.slots import Slots

Row: TypeAlias = Any  # asyncpg.Record: columns by name, untyped in the driver

_SERVER_SETTINGS = {
    "application_name": "compliance-copilot",
    "jit": "off",
    "search_path": SEARCH_PATH,
}
_DEFAULT_TIMEOUT_SECONDS = 30.0
_CROWD = 2


class Database:
    """A pool of connections as the serving role, which row-level security binds."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        lending: Lending,
        anchor: Callable[[Sequence[audit.Head]], None] | None = None,
        connect: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._pool = pool
        self._anchor = anchor
        self._slots = Slots(max(1, pool.get_max_size() // 2))
        self._lending = lending
        self._connect = connect

    async def call(
        self,
        tenant_id: TenantId,
        statement: LiteralString,
        *arguments: object,
        deadline: Deadline | None = None,
    ) -> list[Row]:
        """Run one SQL function whose first argument is the tenant: one round trip.

        The function enters the tenant in its first line (see `migrations/sql`).
        """
        deadline = deadline or Deadline.after(_DEFAULT_TIMEOUT_SECONDS)
        with NAMED_FAILURES:
            async with self._slots.one_of(tenant_id, deadline):
                return await self._fetch(statement, (tenant_id, *arguments), deadline)

    async def call_platform(
        self, statement: LiteralString, *arguments: object, deadline: Deadline | None = None
    ) -> list[Row]:
        """Run one statement outside of any tenant: no protected row is visible."""
        deadline = deadline or Deadline.after(_DEFAULT_TIMEOUT_SECONDS)
        with NAMED_FAILURES:
            return await self._fetch(statement, arguments, deadline)

    async def _fetch(
        self, statement: str, arguments: tuple[object, ...], deadline: Deadline
    ) -> list[Row]:
        async with self._lending.connection(deadline) as connection:
            # The driver keeps the time of a single statement with less ado than asyncio.
            left = deadline.remaining_seconds()
            rows: list[Row] = await connection.fetch(statement, *arguments, timeout=left)
            return rows

    @asynccontextmanager
    async def transaction(
        self, tenant_id: TenantId, *, deadline: Deadline | None = None
    ) -> AsyncIterator[Connection]:
        """Open a transaction inside one tenant; it commits when the block ends well.

        What it appends to the audit log is anchored outside the database after the commit.
        """
        deadline = deadline or Deadline.after(_DEFAULT_TIMEOUT_SECONDS)
        with NAMED_FAILURES, audit.noting() as appended:
            async with (
                asyncio.timeout(deadline.remaining_seconds()),
                self._slots.one_of(tenant_id, deadline),
                self._lending.connection(deadline) as connection,
                transacted(connection),
            ):
                await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant_id)
                yield connection
            self._anchored(appended)

    @asynccontextmanager
    async def platform_transaction(self) -> AsyncIterator[Connection]:
        """Open a transaction outside of any tenant."""
        deadline = Deadline.after(_DEFAULT_TIMEOUT_SECONDS)
        with NAMED_FAILURES, audit.noting() as appended:
            async with (
                asyncio.timeout(deadline.remaining_seconds()),
                self._lending.connection(deadline) as connection,
                transacted(connection),
            ):
                yield connection
            self._anchored(appended)

    def _anchored(self, appended: Sequence[audit.Head]) -> None:
        if appended and self._anchor is not None:
            self._anchor(appended)

    def is_crowded(self) -> bool:
        """Tell whether more wait for a connection than a new request should stand behind.

        Who waits for a slot of his own tenant is not counted: that is nobody else's crowd.
        """
        return self._lending.waiting >= _CROWD * int(self._pool.get_max_size())

    def is_queueing(self) -> bool:
        """Tell whether as many wait, for a connection or for a slot of their own tenant."""
        waiting = self._lending.waiting + self._slots.waiting
        return waiting >= _CROWD * int(self._pool.get_max_size())

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator[Connection]:
        """Open a connection outside of the pool and of any tenant, for one who listens on it."""
        if self._connect is None:
            raise SetupError("This database was opened without an address.")
        with NAMED_FAILURES:
            connection = await self._connect()
        try:
            yield connection
        finally:
            connection.terminate()

    @property
    def in_use(self) -> int:
        """Connections at work at this moment."""
        return int(self._pool.get_size()) - self._idle

    @property
    def _idle(self) -> int:
        return int(self._pool.get_idle_size()) + self._lending.at_hand

    def connections(self) -> dict[str, int]:
        """Return how many connections there are, by state, and how many there may be."""
        return {
            "in_use": self.in_use,
            "idle": self._idle,
            "most": self._pool.get_max_size(),
        }


async def _forget_nothing(_connection: Connection) -> None:
    """Skip the pool's RESET ALL: every setting here is local to its transaction.

    Saves one round trip per statement. `tests/isolation` shows that no session setting is made.
    """


async def _prepare(connection: Connection) -> None:
    """Prepare a new connection; one whose server falls silent meanwhile is dropped, since the pool
    would wait for its farewell.
    """
    prepared = False
    try:
        await vectors.register(connection)
        prepared = True
    finally:
        if not prepared:
            connection.terminate()


@asynccontextmanager
async def open_database(
    dsn: str,
    *,
    max_connections: int = 10,
    anchor: Callable[[Sequence[audit.Head]], None] | None = None,
) -> AsyncIterator[Database]:
    """Open the pool and refuse a role or a server that the rules do not hold on.

    Raises SetupError with one line.
    """
    try:
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=max_connections,
            init=_prepare,
            reset=_forget_nothing,
            command_timeout=None,
            server_settings=_SERVER_SETTINGS,
        )
    except (*UNREACHABLE, asyncpg.PostgresError, ValueError, TimeoutError) as error:
        raise SetupError(
            f"DATABASE_URL: cannot connect ({_one_line(error)}); check host, name and password."
        ) from error
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_close, pool)
        await _refuse_unsafe(pool)
        own = partial(asyncpg.connect, dsn, server_settings=_SERVER_SETTINGS)
        lending = Lending(pool)
        stack.push_async_callback(lending.close)
        yield Database(pool, lending, anchor, own)


async def _close(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), timeout=5)
    except TimeoutError:
        pool.terminate()


async def _refuse_unsafe(pool: asyncpg.Pool) -> None:
    role = await pool.fetchrow(
        "SELECT rolname, rolsuper, rolbypassrls, EXISTS (SELECT FROM pg_class c"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'"
        " AND pg_has_role(current_user, c.relowner, 'MEMBER')) AS owns,"
        " EXISTS (SELECT FROM pg_roles m WHERE (m.rolsuper OR m.rolbypassrls)"
        " AND pg_has_role(current_user, m.oid, 'MEMBER')) AS becomes,"
        " coalesce(current_setting('app.tenant_id', true), '') <> '' AS entered"
        " FROM pg_roles WHERE rolname = current_user"
    )
    for fault, words in (
        ("rolsuper", "is a superuser"),
        ("rolbypassrls", "has BYPASSRLS"),
        ("owns", "owns the tables"),
        ("becomes", "may become a superuser or a role with BYPASSRLS"),
        ("entered", "starts inside a tenant (app.tenant_id is set)"),
    ):
        if role[fault]:
            raise SetupError(
                f"DATABASE_URL: role {role['rolname']!r} {words}, so row-level security would not "
                "bind it; use a plain role there and put the owner into DATABASE_OWNER_URL."
            )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
