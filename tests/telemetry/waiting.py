"""Waits for what a background thread does, as long as it takes within reason."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Return when the condition holds; fail when it never does."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it never came"
        await asyncio.sleep(0.02)
