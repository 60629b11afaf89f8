"""`POST /ingest`: documents come in, all of a call or none."""

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import InvalidRequest, PayloadTooLarge
from compliance_copilot.core.replies import ingest_body
from compliance_copilot.core.vocabulary import NewDocument, Operation, Replay, Scope, Source
from compliance_copilot.gateway.admitting import call_of, claim_of, replayed, working
from compliance_copilot.gateway.authentication import IngestCaller
from compliance_copilot.gateway.bodies import LARGE_BODY_BYTES, json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.reply_schemas import IngestReplyBody, Skipped
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.schemas import LARGEST_TEXT_BYTES, DocumentBody, IngestRequest

router = APIRouter(tags=["documents"])


@router.post(
    "/ingest",
    summary="Store documents and make them searchable",
    **documented(
        IngestReplyBody | Skipped,
        accepts=IngestRequest,
        scopes=[Scope.INGEST],
        errors=(404, 409, 410, 429, 502, 504),
        idempotent=True,
    ),
)
async def ingest(
    request: Request,
    caller: IngestCaller,
    body: Annotated[IngestRequest, json_body(IngestRequest, limit_bytes=LARGE_BODY_BYTES)],
) -> Response:
    """Store new or changed documents of the key's tenant; the same content again is no work."""
    claim = claim_of(request, body)
    documents = new_documents(body.documents)
    with working(request, caller, Operation.INGEST, body.tenant_id) as service:
        reply = await service.copilot.ingest(
            caller.tenant_id,
            documents,
            call=call_of(request, caller, claim),
        )
    return replayed(reply) if isinstance(reply, Replay) else json_reply(ingest_body(reply))


def new_documents(bodies: list[DocumentBody]) -> list[NewDocument]:
    """Return the documents of a call. Raises PayloadTooLarge, or InvalidRequest for an id that
    comes twice; each names the document by its index.
    """
    seen: set[str] = set()
    documents = []
    for index, body in enumerate(bodies):
        _check_size(index, body)
        if body.document_id is not None:
            if body.document_id in seen:
                field = f"documents.{index}.document_id"
                raise InvalidRequest(f"{field}: this id came before in the call.", field=field)
            seen.add(body.document_id)
        documents.append(
            NewDocument(
                text=body.text,
                document_id=body.document_id,
                title=body.title,
                metadata=body.metadata or {},
                effective_from=body.effective_from,
                source=_source(body),
            )
        )
    return documents


def _check_size(index: int, body: DocumentBody) -> None:
    if len(body.text) * 4 > LARGEST_TEXT_BYTES < len(body.text.encode()):
        field = f"documents.{index}.text"
        raise PayloadTooLarge(
            f"{field}: a text has at most {LARGEST_TEXT_BYTES} bytes.",
            field=field,
            limit_bytes=LARGEST_TEXT_BYTES,
        )


def _source(body: DocumentBody) -> Source | None:
    if body.source_path is None:
        return None
    return Source(body.source_path, bytes.fromhex(body.source_hash) if body.source_hash else None)
