"""The sweep: leases that ended without a settlement are closed, every five seconds."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from compliance_copilot.core.errors import CopilotError
from compliance_copilot.storage.database import Database

SWEEP_SECONDS = 5.0
LOG = logging.getLogger(__name__)


@asynccontextmanager
async def sweeping(
    database: Database, *, every_seconds: float = SWEEP_SECONDS
) -> AsyncIterator[None]:
    """Sweep in the background while the context lasts; one worker at a time does the work."""
    task = asyncio.create_task(_sweep_for_ever(database, every_seconds), name="sweep")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sweep_once(database: Database) -> int:
    """Close what has run out; return how many rows, 0 when another worker is at it."""
    rows = await database.call_platform("SELECT sweep() AS ended")
    return rows[0]["ended"] or 0


async def _sweep_for_ever(database: Database, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            ended = await sweep_once(database)
        except CopilotError as error:
            LOG.warning("sweep put off: %s", error.code)
            continue
        if ended:
            LOG.info("sweep closed %d rows whose lease was over", ended)
