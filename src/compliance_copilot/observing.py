"""What a serving process tells: its log lines, its share of the metrics, its traces.

Reads the settings for `telemetry/`, and samples every few seconds what is a state and no event.
Must not enter: what is counted where.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path

from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.billing.journal import Journal
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.rag.breaker import Breakers, State
from compliance_copilot.rag.ports import VectorIndex
from compliance_copilot.settings import Settings
from compliance_copilot.storage import queue
from compliance_copilot.storage.database import Database
from compliance_copilot.storage.embedded import make_data_dir
from compliance_copilot.storage.filelock import POLL_SECONDS, FileLock
from compliance_copilot.telemetry import logs, metrics, sharing
from compliance_copilot.telemetry.tracing import Tracing, tracing

SAMPLE_SECONDS = 5.0
_PATIENCE_SECONDS = 2.0
_DEGREES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
Sample = Callable[[], None]
"""Sets some gauges from memory; it may not wait."""


def traced(settings: Settings) -> AbstractAsyncContextManager[None]:
    """Return the context in which spans are recorded, if a collector is named."""
    if settings.otlp_endpoint is None:
        return tracing(None)
    return tracing(
        Tracing(
            settings.otlp_endpoint,
            settings.trace_sample_ratio,
            settings.trace_content,
            version("compliance-copilot"),
        )
    )


@contextmanager
def served(settings: Settings) -> Iterator[None]:
    """Log in our form and share the metrics' folder with the other workers."""
    logs.configure(settings.log_level, readable=settings.environment == "development")
    make_data_dir(settings.data_dir)
    folder = settings.data_dir / "metrics"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (
        _holding(folder),
        sharing.shared(folder, most_tenants=settings.metrics_tenants),
    ):
        metrics.BUILD.labels(version("compliance-copilot")).set(1)
        metrics.VIOLATIONS.labels("context")  # told as 0, so that the first one is an increase
        metrics.RESTARTS.labels("died")
        yield


def sample_stores(index: VectorIndex, journal: Journal) -> None:
    """Set the gauges of what this process keeps."""
    if isinstance(index, HotIndex):
        metrics.HOT_INDEX_BYTES.labels("held").set(index.nbytes)
        metrics.HOT_INDEX_WAITING.labels("corpora").set(index.waiting)
    metrics.JOURNAL_LINES.labels("settlements").set(journal.pending)
    metrics.JOURNAL_BYTES.labels("settlements").set(journal.nbytes)
    metrics.JOURNAL_AGE.labels("settlements").set(journal.age_seconds)


def sample_breakers(breakers: Breakers) -> None:
    """Set the gauges of the breakers: of each provider and model the worst, whosever key it is."""
    worst: dict[tuple[str, str], int] = {}
    for (provider, model, _), state in breakers.states().items():
        worst[provider, model] = max(worst.get((provider, model), 0), _DEGREES[state])
    for (provider, model), degree in worst.items():
        metrics.BREAKER.labels(provider, model).set(degree)


@contextmanager
def _holding(folder: Path) -> Iterator[None]:
    """Hold the folder beside the other workers; the first finds it empty."""
    lock = FileLock(folder / "lock")
    try:
        sharing.prepare(folder, alone=lock.try_exclusive())
        while not lock.try_shared():  # another worker is just now looking whether it is the first
            time.sleep(POLL_SECONDS)
        yield
    finally:
        lock.close()


@asynccontextmanager
async def sampling(
    database: Database, samples: Sequence[Sample], *, every_seconds: float = SAMPLE_SECONDS
) -> AsyncIterator[None]:
    """Keep the gauges current while the context lasts."""
    task = asyncio.create_task(_sample(database, samples, every_seconds), name="sampling")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sample(database: Database, samples: Sequence[Sample], every_seconds: float) -> None:
    while True:
        for sample in samples:
            sample()
        for state, number in database.connections().items():
            metrics.CONNECTIONS.labels(state).set(number)
        metrics.DATABASE_UP.labels("serving").set(await _sample_database(database))
        metrics.LAST_RUN.labels("sampling").set(time.time())
        await asyncio.sleep(every_seconds)


async def _sample_database(database: Database) -> bool:
    """Set the gauges of the queue; tell whether the database answers."""
    try:
        for state, number, oldest in await queue.waiting(
            database, Deadline.after(_PATIENCE_SECONDS)
        ):
            metrics.JOBS.labels(state).set(number)
            metrics.JOBS_AGE.labels(state).set(oldest)
    except CopilotError:
        return False
    return True
