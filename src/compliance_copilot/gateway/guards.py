"""Before any work: too many at once are sent away, too slow ones are cut off. Raw ASGI."""

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance_copilot.core.clock import new_id
from compliance_copilot.gateway.middleware import dress
from compliance_copilot.gateway.problems import RequestTimeout, problem_of
from compliance_copilot.telemetry import metrics

ALWAYS_SERVED = frozenset({"/health", "/ready", "/metrics"})
_RETRY_AFTER_SECONDS = 1
BODY_SECONDS = 10.0
"""A body has this long, and a second more for each SLOWEST_BYTES that have come."""
SLOWEST_BYTES = 16 * 1024


class Crowd:
    """Serves so many requests at the same time, and none while too many wait for the database;
    the rest get 503 before anything is looked up.

    Who is sent away costs a fraction of a request, so that those inside are served at full speed.
    """

    def __init__(self, app: ASGIApp, most: Callable[[], int], crowded: Callable[[], bool]) -> None:
        self._app = app
        self._most = most
        self._crowded = crowded
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or send away."""
        if scope["type"] != "http" or scope["path"] in ALWAYS_SERVED:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most() or self._crowded():
            await _turn_away(scope, receive, send)
            return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without the door's span and log line: at such times they are what is too much."""
    request_id = str(new_id())
    scope.setdefault("state", {})["request_id"] = request_id
    facts = {"retry_after_seconds": _RETRY_AFTER_SECONDS}
    reply = problem_of(Request(scope), "overloaded", "", facts)
    metrics.HTTP_REQUESTS.labels("_OTHER", "unmatched", str(reply.status_code)).inc()

    async def send_dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            dress(message, scope["path"], request_id)
        await send(message)

    await reply(scope, receive, send_dressed)


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
