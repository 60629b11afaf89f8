"""The queue of background work: pgqueuer in the same PostgreSQL.

A ticket holds ids only, because the queue's tables have no tenants. Tickets of one tenant get
ever lower priorities, so that whoever brings three files is not behind somebody's ten thousand.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Connection, Database

_ENTRYPOINT = "ingest"
_HEARTBEAT = timedelta(seconds=15)
"""A ticket whose worker has been silent for this long is given to another."""
_POLL = timedelta(seconds=10)
_RECONNECT_SECONDS = 1.0
_AHEAD = """
    SELECT count(*) FROM pgqueuer q, (SELECT priority, id FROM pgqueuer WHERE id = $1) mine
    WHERE q.status = 'queued' AND q.entrypoint = 'ingest'
      AND (q.priority > mine.priority OR (q.priority = mine.priority AND q.id < mine.id))
"""
_WAITING = """
    SELECT s.state, count(q.id) AS number,
           coalesce(extract(epoch FROM now() - min(q.created)), 0)::float8 AS oldest_seconds
    FROM unnest(ARRAY['queued', 'picked']) s (state)
    LEFT JOIN pgqueuer q ON q.status::text = s.state
    GROUP BY s.state
"""
LOG = logging.getLogger(__name__)
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Ticket:
    """One piece of work: whose it is, and which part of it, by ids alone.

    `traceparent`: the trace in which it was asked for.
    """

    tenant_id: TenantId
    job_id: UUID
    queue_id: int = 0
    traceparent: str | None = None


class PutBack(Exception):
    """The work cannot be done now: the ticket goes back into the queue."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


async def enqueue(
    connection: Connection, ticket: Ticket, *, first_place: int, count: int
) -> list[int]:
    """Put `count` tickets into the tenant's line, in the caller's transaction; return their ids.

    `first_place` is how many of the tenant's tickets wait already.
    """
    await asyncio.to_thread(_load)
    queries = _pgqueuer("queries").Queries(_pgqueuer("db").AsyncpgDriver(connection))
    payload = orjson.dumps([ticket.tenant_id, str(ticket.job_id), ticket.traceparent])
    ids: list[int] = await queries.enqueue(
        [_ENTRYPOINT] * count,
        [payload] * count,
        [-(first_place + place) for place in range(count)],
    )
    return ids


async def tickets_ahead(connection: Connection, queue_id: int) -> int:
    """Return how many tickets of anybody come before one."""
    return int(await connection.fetchval(_AHEAD, queue_id))


async def waiting(database: Database, deadline: Deadline) -> list[tuple[str, int, float]]:
    """Return per state how many tickets there are, and how many seconds the oldest has waited."""
    rows = await database.call_platform(_WAITING, deadline=deadline)
    return [(row["state"], row["number"], row["oldest_seconds"]) for row in rows]


async def work_off(
    database: Database,
    handle: Callable[[Ticket], Awaitable[None]],
    *,
    at_once: int,
    stopping: asyncio.Event,
) -> None:
    """Take tickets and handle them until `stopping` is set; a lost connection is made anew.

    A ticket under way when it stops goes back into the queue.
    """
    await asyncio.to_thread(_load)
    while not stopping.is_set():
        try:
            async with database.own_connection() as connection:
                await _work(connection, handle, at_once, stopping)
        except (CopilotError, OSError) as error:
            LOG.warning("the queue is put off: %s", type(error).__name__)
        except Exception:
            LOG.exception("the queue broke; it is opened anew")
        if not stopping.is_set():
            await asyncio.sleep(_RECONNECT_SECONDS)


async def _work(
    connection: Connection,
    handle: Callable[[Ticket], Awaitable[None]],
    at_once: int,
    stopping: asyncio.Event,
) -> None:
    logging.getLogger("pgqueuer").setLevel(logging.CRITICAL)  # it would log payloads
    driver = _pgqueuer("db").AsyncpgDriver(connection)
    manager = _pgqueuer("qm").QueueManager(_pgqueuer("queries").Queries(driver))
    retry = _pgqueuer("errors").RetryRequested

    async def ingest(job: Any) -> None:
        tenant_id, job_id, traceparent = orjson.loads(job.payload)
        ticket = Ticket(TenantId(tenant_id), UUID(job_id), job.id, traceparent)
        try:
            await _unless(stopping, handle(ticket))
        except PutBack as error:
            raise retry(timedelta(seconds=error.seconds), "put back") from None

    manager.entrypoint(_ENTRYPOINT)(ingest)
    running = asyncio.create_task(
        manager.run(
            batch_size=1,
            max_concurrent_tasks=max(2, at_once),
            dequeue_timeout=_POLL,
            heartbeat_timeout=_HEARTBEAT,
            shutdown_on_listener_failure=True,
        )
    )
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
        manager.shutdown.set()
        await running
    finally:
        stop.cancel()
        running.cancel()


async def _unless(stopping: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work, but give it up when the process stops. Raises PutBack then."""
    doing = asyncio.ensure_future(work)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({doing, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
            raise PutBack
        await doing
    finally:
        stop.cancel()


def _load() -> None:
    """Import pgqueuer, which takes 0.8 s; one at a time, because its modules import in a ring."""
    with _loading:
        for module in ("", ".queries", ".db", ".qm", ".errors"):
            import_module(f"pgqueuer{module}")


def _pgqueuer(module: str) -> Any:
    return import_module(f"pgqueuer.{module}")
