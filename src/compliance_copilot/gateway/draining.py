"""Leaving in order: readiness flips first, then, after a notice, the server stops accepting.

The notice is what a load balancer needs to see `/ready` fail and to send its requests elsewhere.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from compliance_copilot.gateway.state import Gateway


@contextmanager
def noticing(
    gateway: Gateway, notice_seconds: float, on_drain: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Put the notice before the server's own answer to SIGTERM, where it has one."""
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.getsignal(signal.SIGTERM)
    if not callable(before):  # no server that leaves in order: a test, a notebook
        yield
        return
    loop, leave = asyncio.get_running_loop(), before

    def drain(number: int, frame: FrameType | None) -> None:
        if gateway.draining or notice_seconds == 0:
            leave(number, frame)
        else:
            loop.call_soon_threadsafe(loop.call_later, notice_seconds, leave, number, None)
        loop.call_soon_threadsafe(on_drain)
        gateway.draining = True

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is drain:
            signal.signal(signal.SIGTERM, before)
