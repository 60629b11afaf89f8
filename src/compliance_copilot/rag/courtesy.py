"""Questions first: background work goes in small steps, and each waits while a question is at work.

One for each process, which has one interpreter lock and one event loop to share. A question counts
for its first moments only: later it waits for a model, and nobody is in its way. A step waits a few
milliseconds at most, so under constant questions the work slows down and does not stand still.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STEP_CHUNKS = 32
"""As many chunks are some milliseconds of work."""
_MOST_WAIT_SECONDS = 0.005
_MOMENTS_SECONDS = 0.05


class Courtesy:
    """Knows whether questions are at work in this process."""

    def __init__(self) -> None:
        self._questions = 0
        self._last_began = 0.0
        # The same for threads and for the event loop.
        self._none, self._idle = threading.Event(), asyncio.Event()

    @contextmanager
    def question(self) -> Iterator[None]:
        """Be a question while the block lasts; on the event loop."""
        self._questions += 1
        self._last_began = time.monotonic()
        self._none.clear()
        self._idle.clear()
        try:
            yield
        finally:
            self._questions -= 1
            if not self._questions:
                self._none.set()
                self._idle.set()

    @property
    def asked(self) -> bool:
        """Whether a question is at work at this moment."""
        recently = time.monotonic() - self._last_began < _MOMENTS_SECONDS
        return self._questions > 0 and recently

    def step(self) -> None:
        """Give way before the next step of work in a thread."""
        if self.asked:
            self._none.wait(_MOST_WAIT_SECONDS)

    async def pause(self) -> None:
        """Give way before the next step of work on the event loop."""
        if self.asked:
            with suppress(TimeoutError):
                async with asyncio.timeout(_MOST_WAIT_SECONDS):
                    await self._idle.wait()
