"""The background of the ledger: ended leases are closed, journals replayed."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from compliance_copilot.billing.metering import Metering
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.storage.database import Database
from compliance_copilot.telemetry import metrics

SWEEP_SECONDS = 5.0
REPLAY_SECONDS = 1.0
LOG = logging.getLogger(__name__)


@asynccontextmanager
async def sweeping(
    database: Database, metering: Metering, *, every_seconds: float = SWEEP_SECONDS
) -> AsyncIterator[None]:
    """Settle what killed processes left, then sweep and replay while the context lasts.

    One worker at a time sweeps; each replays its own journal.
    """
    recovered = await metering.recover()
    if recovered:
        LOG.info("recovered %d settlements from journals", recovered)
    tasks = [
        asyncio.create_task(_for_ever("sweep", lambda: sweep_once(database), every_seconds)),
        asyncio.create_task(_for_ever("replay", metering.replay, REPLAY_SECONDS)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await metering.drain()


async def sweep_once(database: Database) -> int:
    """Close what has run out; return how many rows, 0 when another worker is at it."""
    rows = await database.call_platform("SELECT sweep() AS ended")
    return rows[0]["ended"] or 0


async def _for_ever(name: str, work: Callable[[], Awaitable[int]], every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            done = await work()
        except CopilotError as error:
            LOG.warning("put off: %s", error.code)
            continue
        metrics.LAST_RUN.labels(name).set(time.time())
        if done:
            LOG.info("%d rows of the ledger closed", done)
