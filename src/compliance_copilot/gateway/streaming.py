"""An answer as server-sent events.

An error before the first event is an ordinary problem; later it is the last event.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.events import Cited, Delta, Done, Event, Sources
from compliance_copilot.core.replies import citation_body, query_body, source_body
from compliance_copilot.core.vocabulary import QueryReply, Replay
from compliance_copilot.gateway.admitting import replay_headers
from compliance_copilot.gateway.problems import (
    EVENT_STREAM,
    on_copilot_error,
    problem_of,
    request_id_of,
    server_sent,
)
from compliance_copilot.gateway.replying import json_bytes

EVENTS = (
    'With `"stream": true`. Each event has one line of JSON: `sources` {sources}; then, as'
    " sentences become final, `delta` {text} and `citation` (as in the reply); at last `done`"
    " {outcome, content_hash, metadata} or {skipped, reason}, or `error` (a problem). The deltas"
    " put together are the answer; the events are the reply without `stream`."
)
_HEADERS = {"X-Accel-Buffering": "no"}  # a proxy is not to collect the events
log = logging.getLogger("compliance_copilot.gateway")


async def event_stream(request: Request, events: AsyncGenerator[Event]) -> Response:
    """Return the stream once its first event is there. Raises what comes before it."""
    first = await anext(events)
    headers = dict(_HEADERS)
    if isinstance(first, Done) and isinstance(first.reply, Replay):
        headers |= replay_headers(first.reply)
    return StreamingResponse(
        _sent(request, first, events), headers=headers, media_type=EVENT_STREAM
    )


async def _sent(
    request: Request, first: Event, events: AsyncGenerator[Event]
) -> AsyncIterator[bytes]:
    async with aclosing(events):
        yield _written(first)
        try:
            async for event in events:
                yield _written(event)
        except CopilotError as error:
            yield server_sent("error", bytes((await on_copilot_error(request, error)).body))
        except Exception:
            log.exception("unexpected error", extra={"request_id": request_id_of(request)})
            yield server_sent("error", bytes(problem_of(request, "internal_error", "").body))


def _written(event: Event) -> bytes:
    match event:
        case Sources(sources):
            listed = [source_body(number, source) for number, source in enumerate(sources)]
            return server_sent("sources", json_bytes({"sources": listed}))
        case Delta(text):
            return server_sent("delta", json_bytes({"text": text}))
        case Cited(citation):
            return server_sent("citation", json_bytes(citation_body(citation)))
        case Done(Replay() as replay):
            return _whole(replay.reply)
        case Done(QueryReply() as reply):
            return _done(query_body(reply))
        case _:
            raise TypeError(type(event).__name__)


def _whole(body: Mapping[str, Any]) -> bytes:
    """Return all events of a stored reply."""
    return b"".join(
        [
            server_sent("sources", json_bytes({"sources": body["sources"]})),
            server_sent("delta", json_bytes({"text": body["answer"]})),
            *(server_sent("citation", json_bytes(c)) for c in body["citations"]),
            _done(body),
        ]
    )


def _done(body: Mapping[str, Any]) -> bytes:
    told = {name: body[name] for name in ("outcome", "content_hash", "metadata") if name in body}
    return server_sent("done", json_bytes(told))
