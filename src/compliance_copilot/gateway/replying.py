"""Replies in JSON, written once by orjson from frozen values."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from fastapi import Query
from starlette.responses import Response

from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import QueryReply

Limit = Annotated[int, Query(ge=1, le=1000, description="The most entries of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=2000, description="`next_cursor` of the page before.")
]
Entry = TypeVar("Entry")


def json_reply(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a value (dataclasses, UUIDs, instants included) as a JSON reply."""
    return _reply(json_bytes(content), status, headers)


def settled_reply(reply: QueryReply, *, headers: Mapping[str, str]) -> Response:
    """Return an answer in the bytes in which it was settled."""
    return _reply(reply.written or json_bytes(query_body(reply)), 200, headers)


def _reply(body: bytes, status: int, headers: Mapping[str, str] | None) -> Response:
    return Response(body, status, dict(headers or {}), media_type="application/json")


def json_bytes(content: object) -> bytes:
    """Return a value as JSON, on one line."""
    return orjson.dumps(content, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, frozenset | set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    if isinstance(value, UUID):  # the driver's own subclass, which orjson does not know
        return str(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def page(
    name: str, entries: Sequence[Entry], limit: int, last_ids: Sequence[str]
) -> dict[str, Any]:
    """Return a page of a list of up to `limit` + 1 entries; `last_ids` are their ids."""
    more = len(entries) > limit
    return {
        name: list(entries[:limit]),
        "next_cursor": cursor_of(last_ids[limit - 1]) if more else None,
    }


def cursor_of(last_id: str) -> str:
    """Return the cursor that continues after an id."""
    return base64.urlsafe_b64encode(last_id.encode()).decode().rstrip("=")


def id_of(cursor: str | None) -> str | None:
    """Return the id after which a page starts. Raises InvalidRequest for what is no cursor."""
    if cursor is None:
        return None
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text or not text.isprintable():
        raise InvalidRequest("cursor: this is not a cursor of this list.", field="cursor")
    return text
