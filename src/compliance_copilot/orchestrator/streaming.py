"""Questions whose answer is read while it is made, by readers who may be slow or leave.

The work runs in a task of its own: its row is settled whether or not somebody reads. What waits
for a slow reader is one answer at most, and that is bounded by `max_tokens`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from compliance_copilot.core.events import Event, Tell

Work = Callable[[Tell], Awaitable[object]]
_STOP_SECONDS = 5.0


class Streams:
    """The streams of this process.

    `drain_seconds`: how long the work goes on after its reader has left, to hear from the provider
    what it charged; beyond it the tokens are counted here, and the row says `estimated`.
    """

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, work: Work) -> AsyncGenerator[Event]:
        """Yield what the work tells. Raises what it raises."""
        told: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.create_task(_run(work, told), name="stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while (event := await told.get()) is not None:
                yield event
            await task
        finally:
            if not task.done():
                self._leave(task)

    def _leave(self, task: "asyncio.Task[None]") -> None:
        task.add_done_callback(_forget)
        timer = asyncio.get_running_loop().call_later(self._drain_seconds, task.cancel)
        task.add_done_callback(lambda _: timer.cancel())

    async def close(self) -> None:
        """Wait for what still runs, then end it; every row is settled."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_seconds)
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)


async def _run(work: Work, told: "asyncio.Queue[Event | None]") -> None:
    try:
        await work(told.put_nowait)
    finally:
        told.put_nowait(None)


def _forget(task: "asyncio.Task[None]") -> None:
    """Take the error of work that nobody reads any more: the ledger has its outcome."""
    if not task.cancelled():
        task.exception()
