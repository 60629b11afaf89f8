"""Blocking work in a thread that a cancellation does not leave behind half way."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def to_the_end(work: Callable[[], T], on_cancel: Callable[[], None] = lambda: None) -> T:
    """Run blocking work in a thread; a cancellation is passed on when the work has ended.

    `on_cancel` may tell the work to be quick about it.
    """
    return await finished(asyncio.ensure_future(asyncio.to_thread(work)), on_cancel)


async def finished(task: asyncio.Future[T], on_cancel: Callable[[], None] = lambda: None) -> T:
    """Return what a task gives; a cancellation meanwhile is passed on when the task has ended."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as asked:
            cancelled = asked
            on_cancel()
    if cancelled is not None:
        task.exception()  # seen; the cancellation weighs more
        raise cancelled
    return task.result()
