"""Senders who are too slow are cut off. Raw ASGI."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance_copilot.gateway.problems import RequestTimeout

BODY_SECONDS = 10.0
"""A body has this long, and a second more for each SLOWEST_BYTES that have come."""
SLOWEST_BYTES = 16 * 1024


class Patience:
    """Ends the reading of a body that comes too slowly; raises RequestTimeout into the reader."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve with a bounded wait for the body."""
        if scope["type"] == "http":
            receive = _bounded(receive)
        await self._app(scope, receive, send)


def _bounded(receive: Receive) -> Receive:
    started: float | None = None
    size, whole = 0, False

    async def bounded() -> Message:
        nonlocal started, size, whole
        if whole:
            return await receive()  # from here on it tells of a disconnect, whenever it comes
        started = started or time.monotonic()
        left = started + BODY_SECONDS + size / SLOWEST_BYTES - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, left)):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout("The body did not arrive in time.") from None
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        return message

    return bounded
