"""The door: every request gets its id, every reply its headers, every crash a problem.

Raw ASGI. The lifespan passes here too: a service that cannot start says so in one line.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import Span, SpanKind
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance_copilot.core.acting import Actor, acting
from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import SetupError
from compliance_copilot.gateway.problems import problem_of
from compliance_copilot.telemetry import metrics, requests, tracing

log = logging.getLogger("compliance_copilot.gateway")
DOCS_PATH = "/docs"
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
_REQUEST_ID = b"x-request-id"
_EVERYWHERE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
}
_DOCS_HEADERS = _EVERYWHERE | {b"content-security-policy": _DOCS_POLICY.encode()}
_API_HEADERS = _EVERYWHERE | {
    b"content-security-policy": _API_POLICY.encode(),
    b"cache-control": b"no-store",
}
_LONGEST_CLIENT_ID = 128
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Door:
    """Wraps the whole application, its error handlers included."""

    def __init__(self, app: ASGIApp, is_leaving: Callable[[], bool] = lambda: False) -> None:
        self._app = app
        self._is_leaving = is_leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["request_id"] = new_id()
        request_id = str(scope["state"]["request_id"])
        with _observed(scope, request_id) as served:

            async def send_dressed(message: Message) -> None:
                if message["type"] == "http.response.start":
                    served.status = message["status"]
                    dress(message, scope["path"], request_id)
                    if self._is_leaving():
                        take_leave(message)
                await send(message)

            try:
                with acting(Actor("nobody", request_id=request_id)):
                    await self._app(scope, receive, send_dressed)
            except ClientDisconnect:
                pass  # the caller is gone: nobody reads a reply
            except Exception:
                log.exception("unexpected error", extra={"request_id": request_id})
                if served.status:
                    raise  # half a reply is out; the server cuts the connection
                reply = problem_of(Request(scope), "internal_error", "")
                await reply(scope, receive, send_dressed)

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


def dress(message: Message, path: str, request_id: str) -> None:
    """Put the headers that every reply carries on the start of one.

    An X-Request-ID that is there already stays (a stored reply's), and so does what /docs allows
    to be kept; the others are ours alone.
    """
    ours = _DOCS_HEADERS if path == DOCS_PATH or path.startswith(f"{DOCS_PATH}/") else _API_HEADERS
    given = [header for header in message.get("headers", ()) if header[0].lower() not in ours]
    if all(name.lower() != _REQUEST_ID for name, _ in given):
        given.append((_REQUEST_ID, request_id.encode("latin-1")))
    message["headers"] = [*given, *ours.items()]


def take_leave(message: Message) -> None:
    """Let a reply end its connection: the caller's next request goes to a process that stays."""
    MutableHeaders(scope=message)["Connection"] = "close"


@dataclass(slots=True)
class _Served:
    status: int = 0


@contextmanager
def _observed(scope: Scope, request_id: str) -> Iterator[_Served]:
    """Make the request's span, count it and log it when it is over.

    A caller's trace is continued; nothing else of what he sends for telemetry is taken over.
    """
    served, began = _Served(), time.perf_counter()
    traced = tracing.is_on()
    caller = tracing.caller_context(_header(scope, b"traceparent")) if traced else None
    with (
        requests.entered(request_id) as facts,
        tracing.span(_method(scope), kind=SpanKind.SERVER, parent=caller) as span,
    ):
        try:
            yield served
        finally:
            seconds = time.perf_counter() - began
            served.status = served.status or 499  # no reply was begun: nobody was there for it
            if traced:
                _finish(span, scope, facts, served.status)
            _count(scope, served.status, seconds, facts.model_seconds)
            _note(scope, served.status, seconds, facts)


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", None) or "unmatched"


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "_OTHER"


def _finish(span: Span, scope: Scope, facts: requests.RequestFacts, status: int) -> None:
    span.update_name(f"{_method(scope)} {_route(scope)}")
    span.set_attributes(
        {
            "http.request.method": _method(scope),
            "http.route": _route(scope),
            "http.response.status_code": status,
        }
    )
    if facts.tenant_id is not None:
        span.set_attribute(tracing.TENANT_KEY, facts.tenant_id)
    if status >= 500:
        tracing.fail(span, str(status))


def _count(scope: Scope, status: int, seconds: float, model_seconds: float) -> None:
    route = _route(scope)
    metrics.HTTP_REQUESTS.labels(_method(scope), route, str(status)).inc()
    metrics.HTTP_LATENCY.labels(route).observe(seconds)
    metrics.OWN_LATENCY.labels(route).observe(max(0.0, seconds - model_seconds))


def _note(scope: Scope, status: int, seconds: float, facts: requests.RequestFacts) -> None:
    if not log.isEnabledFor(logging.INFO):
        return
    told = {
        "request_id": facts.request_id,
        "client_request_id": _client_request_id(scope),
        "tenant_id": facts.tenant_id,
        "method": _method(scope),
        "route": getattr(scope.get("route"), "path", None),
        "status": status,
        "latency_ms": round(seconds * 1000, 3),
    }
    log.info("request", extra=told)


def _client_request_id(scope: Scope) -> str | None:
    text = _header(scope, b"x-request-id")
    fits = text and len(text) <= _LONGEST_CLIENT_ID and text.isascii() and text.isprintable()
    return text if fits else None


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, raw in scope["headers"]:
        if name == wanted:
            text: str = raw.decode("latin-1")
            return text
    return None
