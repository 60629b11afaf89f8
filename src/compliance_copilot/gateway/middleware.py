"""The door: every request gets its id, every reply its headers, every crash a problem.

Raw ASGI. The lifespan passes here too: a service that cannot start says so in one line.
"""

import logging
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import SetupError
from compliance_copilot.gateway.problems import problem_of

log = logging.getLogger("compliance_copilot.gateway")
DOCS_PATH = "/docs"
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_LONGEST_CLIENT_ID = 128


class Door:
    """Wraps the whole application, its error handlers included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.perf_counter(), 0

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _dress(message, scope["path"], str(request_id))
            await send(message)

        try:
            await self._app(scope, receive, send_dressed)
        except ClientDisconnect:
            status = status or 499  # the caller is gone: nobody reads a reply
        except Exception:
            log.exception("unexpected error", extra={"request_id": str(request_id)})
            if status:
                raise  # half a reply is out; the server cuts the connection
            await problem_of(Request(scope), "internal_error", "")(scope, receive, send_dressed)
        finally:
            _note(scope, status, time.perf_counter() - started)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        failures: list[Message] = []

        async def send_unless_failed(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_failed)
        except SetupError as error:
            # The server prints the message and leaves with its own non-zero status.
            await send({"type": "lifespan.startup.failed", "message": error.detail})
            raise
        except BaseException:
            for message in failures:
                await send(message)
            raise


def _dress(message: Message, path: str, request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers.setdefault("X-Request-ID", request_id)
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    if path == DOCS_PATH or path.startswith(f"{DOCS_PATH}/"):
        headers["Content-Security-Policy"] = _DOCS_POLICY
    else:
        headers["Content-Security-Policy"] = _API_POLICY
        headers["Cache-Control"] = "no-store"


def _note(scope: Scope, status: int, seconds: float) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    facts = {
        "request_id": str(scope["state"]["request_id"]),
        "client_request_id": _client_request_id(scope),
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None),
        "status": status,
        "latency_ms": round(seconds * 1000, 3),
    }
    log.info("request", extra=facts)


def _client_request_id(scope: Scope) -> str | None:
    for name, raw in scope["headers"]:
        if name == b"x-request-id":
            text: str = raw.decode("latin-1")
            fits = len(text) <= _LONGEST_CLIENT_ID and text.isascii() and text.isprintable()
            return text if fits else None
    return None
