"""`POST /query` and `POST /search`: a question to the tenant's own documents."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.replies import search_body
from compliance_copilot.core.vocabulary import Operation, Replay, Scope
from compliance_copilot.gateway.admitting import call_of, claim_of, replayed, working
from compliance_copilot.gateway.authentication import admitted_caller
from compliance_copilot.gateway.bodies import read_json
from compliance_copilot.gateway.direct import DirectRoute
from compliance_copilot.gateway.documentation import documented, or_text
from compliance_copilot.gateway.limits import quota_headers
from compliance_copilot.gateway.problems import EVENT_STREAM, mark_streamed
from compliance_copilot.gateway.reply_schemas import QueryReplyBody, SearchReplyBody, Skipped
from compliance_copilot.gateway.replying import json_reply, settled_reply
from compliance_copilot.gateway.schemas import QueryRequest, SearchRequest
from compliance_copilot.gateway.streaming import EVENTS, event_stream

router = APIRouter(tags=["answers"], route_class=DirectRoute)
_FAILURES = (404, 429, 502, 504)


@router.post(
    "/query",
    summary="Ask; the answer quotes the tenant's documents",
    **or_text(
        documented(
            QueryReplyBody | Skipped,
            accepts=QueryRequest,
            scopes=[Scope.QUERY],
            errors=(*_FAILURES, 409, 410),
            idempotent=True,
        ),
        EVENT_STREAM,
        EVENTS,
    ),
)
async def query(request: Request) -> Response:
    """Answer a question from the documents of the key's tenant, each sentence with its quote."""
    caller = await admitted_caller(request, Scope.QUERY)
    body = await read_json(request, QueryRequest)
    claim = claim_of(request, body)
    if body.stream:
        mark_streamed(request)
    asked: Any = {
        "override_config": body.overrides(),
        "narrowing": body.narrowing,
        "call": call_of(request, caller, claim, body.conversation_id),
    }
    with working(request, caller, Operation.QUERY, body.tenant_id) as service:
        copilot = service.copilot
        if body.stream:
            events = copilot.stream(caller.tenant_id, body.query, **asked)
            return await event_stream(request, events)
        reply = await copilot.query(caller.tenant_id, body.query, **asked)
    if isinstance(reply, Replay):
        return replayed(reply)
    return settled_reply(reply, headers=quota_headers(reply.metadata))


@router.post(
    "/search",
    summary="Find the sections; no answer is written",
    **documented(
        SearchReplyBody | Skipped, accepts=SearchRequest, scopes=[Scope.QUERY], errors=_FAILURES
    ),
)
async def search(request: Request) -> Response:
    """Return ranked sources from the documents of the key's tenant, without generation."""
    caller = await admitted_caller(request, Scope.QUERY)
    body = await read_json(request, SearchRequest)
    with working(request, caller, Operation.SEARCH, body.tenant_id) as service:
        reply = await service.copilot.search(
            caller.tenant_id,
            body.query,
            override_config=body.overrides(),
            narrowing=body.narrowing,
            explain=body.explain,
            call=call_of(request, caller),
        )
    return json_reply(search_body(reply), headers=quota_headers(reply.metadata))
