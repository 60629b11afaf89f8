"""`PUT /documents:sync`: a script mirrors a folder or a bucket."""

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import DocumentWriter
from compliance_copilot.gateway.bodies import LARGE_BODY_BYTES, json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import SyncReply
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.schemas import SyncRequest
from compliance_copilot.gateway.state import service_of
from compliance_copilot.rag.mirroring import Manifest

router = APIRouter(tags=["documents"])
_MOST_ERASED = 100


@router.put(
    "/documents:sync",
    summary="Compare a folder with what was read from it",
    **documented(SyncReply, accepts=SyncRequest, scopes=[Scope.INGEST], errors=(404, 409, 504)),
)
async def sync(
    request: Request,
    caller: DocumentWriter,
    body: Annotated[SyncRequest, json_body(SyncRequest, limit_bytes=LARGE_BODY_BYTES)],
) -> Response:
    """Tell which files are new or changed, and which documents' files are gone."""
    service = service_of(request)
    difference = await service.copilot.documents.compare(caller.tenant_id, _manifest(body))
    gone = []
    for number, (document_id, path) in enumerate(difference.gone):
        erasure_id = None
        if body.delete and number < _MOST_ERASED:
            receipt = await service.erasing.document(
                caller.tenant_id, document_id, requested_by=caller.principal.key_id
            )
            erasure_id = receipt.erasure_id
        gone.append({"document_id": document_id, "path": path, "erasure_id": erasure_id})
    return json_reply(
        {"wanted": difference.wanted, "unchanged": difference.unchanged, "gone": gone}
    )


def _manifest(body: SyncRequest) -> Manifest:
    files: dict[str, bytes] = {}
    for index, file in enumerate(body.files):
        field = f"files.{index}.path"
        if file.path in files:
            raise InvalidRequest(f"{field}: this path came before in the manifest.", field=field)
        if not file.path.startswith(body.prefix):
            raise InvalidRequest(f"{field}: it does not start with the prefix.", field=field)
        files[file.path] = bytes.fromhex(file.hash)
    return Manifest(files, body.prefix)
