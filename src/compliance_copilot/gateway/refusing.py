"""How one is sent away: with the same words on the wire and behind it, made ready beforehand.

On the wire (`connections.py`) a refusal costs no task, no scope and no response object. A server
without our connections sends it from the middleware here. Neither makes a span or a log line: at
such times they are what is too much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance_copilot.core.clock import new_id
from compliance_copilot.gateway.crowd import ALWAYS_SERVED, Crowd, Headers
from compliance_copilot.gateway.middleware import dress
from compliance_copilot.gateway.peers import Peers
from compliance_copilot.gateway.problems import problem_of
from compliance_copilot.gateway.turns import Turns
from compliance_copilot.telemetry import metrics

ENTRANCE = "entrance"
"""Where the server's connections find the entrance: in the state of the lifespan."""
ENTERED = "entered"
"""In the state of a request that its connection has counted in."""
_RETRY_AFTER_SECONDS = 1
_ANY_ID = b"00000000-0000-0000-0000-000000000000"
_STATUS_LINE = b"HTTP/1.1 503 Service Unavailable\r\n"
_CLOSE = ((b"connection", b"close"),)


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who is let in, in which order they begin, and who else could serve them."""

    crowd: Crowd
    turns: Turns
    peers: Peers

    def enter(self, headers: Headers) -> None:
        """Count in who was let in."""
        self.crowd.enter(headers)
        self.turns.expect()


class Turnstile:
    """The outermost part of the application. Raw ASGI."""

    def __init__(self, app: ASGIApp, entrance: Entrance) -> None:
        self._app = app
        self._entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or send away; let the connections know who decides."""
        if scope["type"] == "lifespan" and "state" in scope:
            scope["state"][ENTRANCE] = self._entrance
        if scope["type"] != "http" or scope["path"] in ALWAYS_SERVED:
            await self._app(scope, receive, send)
        elif reason := self._too_much(scope):
            for message in refusal(reason):
                await send(message)
        else:
            try:
                await self._entrance.turns.begin()
                await self._app(scope, receive, send)
            finally:
                self._entrance.crowd.leave(scope["headers"])

    def _too_much(self, scope: Scope) -> str | None:
        """Decide and count in, unless the connection has done both."""
        if ENTERED in scope.get("state", ()):
            return None
        reason = self._entrance.crowd.too_much(scope["path"], scope["headers"])
        if reason is None:
            self._entrance.enter(scope["headers"])
        return reason


def refusal(reason: str) -> tuple[Message, Message]:
    """Return a refusal as an application sends it."""
    request_id = _counted(reason)
    headers = [(name, value.replace(_ANY_ID, request_id)) for name, value in _HEADERS]
    return (
        {"type": "http.response.start", "status": 503, "headers": headers},
        {"type": "http.response.body", "body": _BODY.replace(_ANY_ID, request_id)},
    )


def refusal_bytes(reason: str, more: Headers, *, closing: bool) -> bytes:
    """Return a refusal as it goes over the wire, with the server's own headers (`more`)."""
    extra = _head_of((*more, *(_CLOSE if closing else ())))
    return b"".join((_STATUS_LINE, extra, _REST.replace(_ANY_ID, _counted(reason))))


def _counted(reason: str) -> bytes:
    metrics.SHED.labels(reason).inc()
    metrics.HTTP_REQUESTS.labels("_OTHER", "unmatched", "503").inc()
    return str(new_id()).encode()


def _head_of(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers)


def _made_ready() -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body by the words of all problems, and with what every reply carries."""
    any_id = _ANY_ID.decode()
    request = Request({"type": "http", "headers": [], "state": {"request_id": any_id}})
    facts = {"retry_after_seconds": _RETRY_AFTER_SECONDS}
    reply = problem_of(request, "overloaded", "", facts)
    start: Message = {"type": "http.response.start", "headers": reply.raw_headers}
    dress(start, "", any_id)
    return MutableHeaders(scope=start).raw, bytes(reply.body)


_HEADERS, _BODY = _made_ready()
_REST = _head_of(_HEADERS) + b"\r\n" + _BODY
