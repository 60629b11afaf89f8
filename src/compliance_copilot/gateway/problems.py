"""Errors as RFC 9457 problems: the one table from an error's code to status and title."""

import logging
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import CopilotError, NotInitialized
from compliance_copilot.gateway.limits import refusal_headers

MEDIA_TYPE = "application/problem+json"
EVENT_STREAM = "text/event-stream"
URN = "urn:compliance-copilot:problem:"
TABLE: Mapping[str, tuple[int, str]] = {
    "malformed_request": (400, "The request cannot be read"),
    "unauthenticated": (401, "A valid API key is needed"),
    "forbidden": (403, "This key may not do that"),
    "tenant_mismatch": (403, "The key belongs to another tenant"),
    "not_found": (404, "There is no such thing here"),
    "method_not_allowed": (405, "This method is not served here"),
    "request_timeout": (408, "The body did not arrive in time"),
    "conflict": (409, "The present state does not allow it"),
    "gone": (410, "Its content no longer exists"),
    "payload_too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "This content type cannot be read"),
    "invalid_request": (422, "A field cannot be used"),
    "limit_reached": (429, "A limit is reached"),
    "budget_exhausted": (429, "The month's budget is used up"),
    "internal_error": (500, "An unexpected error"),
    "setup_error": (500, "The service is not set up"),
    "model_unavailable": (502, "No model answered"),
    "store_unavailable": (503, "The database does not answer"),
    "retrieval_unavailable": (503, "The vector store does not answer"),
    "overloaded": (503, "Too much is going on"),
    "deadline_exceeded": (504, "The time for this request is over"),
}
_OF_STATUS = {400: "malformed_request", 404: "not_found", 405: "method_not_allowed"} | {
    408: "request_timeout",
    413: "payload_too_large",
    415: "unsupported_media_type",
}
_UNAUTHENTICATED, _TOO_SLOW, _LIMITED, _INTERNAL = 401, 408, 429, 500
_RETRY_LATER = (429, 503)
_OWN_MEMBERS = frozenset({"type", "code", "title", "status", "detail", "request_id"})
_SPOKEN_OF_SERVER_ERRORS = frozenset(
    {"retry_after_seconds", "provider", "reason", "deadline_seconds"}
)
_MOST_ERRORS = 20
_LONGEST_NAME = 100
log = logging.getLogger("compliance_copilot.gateway")


class MalformedRequest(CopilotError):
    """The body is not what its content type says; it is never looked into."""

    code = "malformed_request"


class RequestTimeout(CopilotError):
    """The body did not arrive in time."""

    code = "request_timeout"


def request_id_of(request: Request) -> str:
    """Return this request's id, as the door made it."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def problem(request: Request, error: CopilotError) -> Response:
    """Return the reply for an error. What an internal error says stays in the log."""
    return problem_of(request, error.code, error.detail, error.facts)


def problem_of(
    request: Request, code: str, detail: str, facts: Mapping[str, object] = MappingProxyType({})
) -> Response:
    """Return a problem by its code; an unlisted one, and any 500, tells nothing of the inside."""
    status, title = TABLE.get(code, TABLE["internal_error"])
    if status == _INTERNAL:
        code, detail, title, facts = "internal_error", "", TABLE["internal_error"][1], {}
    body = {
        **_spoken(facts, status),
        "type": f"{URN}{code}",
        "code": code,
        "title": title,
        "status": status,
        "detail": detail or f"{title}.",
        "request_id": request_id_of(request),
    }
    return Response(
        orjson.dumps(body, default=str), status, _headers(status, facts), media_type=MEDIA_TYPE
    )


def skipped(reason: str, *, as_event: bool = False) -> Response:
    """Return the limited mode's reply: 200, and why nothing was done; of a stream the one event."""
    body = orjson.dumps({"skipped": True, "reason": reason})
    if as_event:
        return Response(server_sent("done", body), media_type=EVENT_STREAM)
    return Response(body, media_type="application/json")


def server_sent(event: str, data: bytes) -> bytes:
    """Return one server-sent event; `data` is JSON on one line."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), data)


def mark_streamed(request: Request) -> None:
    """Note that the caller of this request reads events."""
    request.scope["state"]["streamed"] = True


def is_streamed(request: Request) -> bool:
    """Tell whether the caller of this request reads events."""
    return bool(request.scope.get("state", {}).get("streamed"))


def of_pydantic(errors: Sequence[Any]) -> CopilotError:
    """Return the problem for pydantic's findings: which field, what is wrong, never its value."""
    found = [{"field": field_name(e["loc"]), "message": _message(e)} for e in errors[:_MOST_ERRORS]]
    first = found[0]
    detail = f"{first['field']}: {first['message']}" if first["field"] else first["message"]
    return InvalidFields(detail, field=first["field"], errors=found)


class InvalidFields(CopilotError):
    """One or more fields of a request cannot be used. Facts: `field` (the first), `errors`."""

    code = "invalid_request"


def field_name(location: Sequence[int | str]) -> str:
    """Return a path into the body, e.g. `documents.3.text`, fit to be shown."""
    return fit(".".join(str(part) for part in location))


def fit(text: str) -> str:
    """Return a client's text so that it can stand in a reply: short, printable, encodable."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown[:_LONGEST_NAME]


def _message(error: Mapping[str, Any]) -> str:
    message: str = error["msg"].removeprefix("Value error, ")
    return "This is not a known field." if error["type"] == "extra_forbidden" else message


def _spoken(facts: Mapping[str, object], status: int) -> dict[str, object]:
    names = _SPOKEN_OF_SERVER_ERRORS if status > _INTERNAL else set(facts)
    return {n: v for n, v in facts.items() if n in names and n not in _OWN_MEMBERS}


def _headers(status: int, facts: Mapping[str, object]) -> dict[str, str]:
    headers: dict[str, str] = {}
    wait = facts.get("retry_after_seconds")
    if isinstance(wait, int | float):
        headers["Retry-After"] = str(max(1, ceil(wait)))
    elif status in _RETRY_LATER:
        headers["Retry-After"] = "1"
    if status == _TOO_SLOW:
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if status == _UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == _LIMITED:
        headers |= refusal_headers(facts)
    return headers


async def on_copilot_error(request: Request, error: Exception) -> Response:
    """Answer an error of ours; the limited mode is one of them and is no failure."""
    if isinstance(error, NotInitialized):
        wanted = EVENT_STREAM in request.headers.get("accept", "")
        return skipped(error.detail, as_event=wanted or is_streamed(request))
    if not isinstance(error, CopilotError):
        raise error
    reply = problem(request, error)
    if reply.status_code >= _INTERNAL:
        log.error("%s: %s", error.code, error.detail, extra={"request_id": request_id_of(request)})
    return reply


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Answer what FastAPI found wrong in a path or a query string."""
    if not isinstance(error, RequestValidationError):
        raise error
    inner = [{**found, "loc": found["loc"][1:]} for found in error.errors()]
    return problem(request, of_pydantic(inner))


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Answer what Starlette raises: unknown routes, other methods."""
    if not isinstance(error, HTTPException):
        raise error
    code = _OF_STATUS.get(error.status_code, "internal_error")
    reply = problem_of(request, code, f"{error.detail.rstrip('.')}.")
    MutableHeaders(raw=reply.raw_headers).update(error.headers or {})
    return reply
