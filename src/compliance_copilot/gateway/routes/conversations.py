"""`DELETE /conversations/{id}`: the questions of a conversation, forgotten."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import AnswerReader
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.state import service_of

router = APIRouter(tags=["answers"])


@router.delete(
    "/conversations/{conversation_id}",
    summary="Forget a conversation",
    **documented(None, status=204, scopes=[Scope.QUERY], errors=(404, 422, 504)),
)
async def forget_conversation(
    request: Request, caller: AnswerReader, conversation_id: str
) -> Response:
    """Erase the questions of a conversation; the next one starts anew."""
    await service_of(request).copilot.conversations.forget(caller.tenant_id, conversation_id)
    return Response(status_code=204)
