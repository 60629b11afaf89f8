"""`/answers`: what was answered, as it was answered, and what readers think of it."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import AnswerReader
from compliance_copilot.gateway.bodies import json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.reply_schemas import QueryReplyBody
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.schemas import FeedbackBody
from compliance_copilot.gateway.state import service_of
from compliance_copilot.rag.answers import Feedback, Verdict
from compliance_copilot.storage.audit import AuditEntry

router = APIRouter(tags=["answers"])


@router.get(
    "/answers/{request_id}",
    summary="An answer once more, as it was given",
    **documented(QueryReplyBody, scopes=[Scope.QUERY], errors=(404, 410, 422, 504)),
)
async def read_answer(request: Request, caller: AnswerReader, request_id: str) -> Response:
    """Return the reply of an earlier `/query` with the same content hash."""
    service = service_of(request)
    answer = await service.copilot.answers.require(caller.tenant_id, _id(request_id))
    if answer.asked_by != caller.principal.key_id:  # somebody else's: written down before shown
        entry = AuditEntry("answer.read", f"answer:{request_id}", {"asked_by": answer.asked_by})
        await service.audit.record(caller.tenant_id, entry)
    return json_reply(answer.body)


@router.post(
    "/answers/{request_id}/feedback",
    summary="Say whether an answer was right",
    **documented(
        None,
        status=204,
        accepts=FeedbackBody,
        scopes=[Scope.QUERY],
        errors=(404, 410, 504),
    ),
)
async def judge_answer(
    request: Request,
    caller: AnswerReader,
    request_id: str,
    body: Annotated[FeedbackBody, json_body(FeedbackBody)],
) -> Response:
    """Note a verdict; the last one of a key holds. Counted in `GET /metrics/{tenant_id}`."""
    await service_of(request).copilot.answers.judge(
        caller.tenant_id,
        _id(request_id),
        caller.principal.key_id,
        Feedback(Verdict(body.verdict), body.comment),
    )
    return Response(status_code=204)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such answer.", kind="answer") from None
