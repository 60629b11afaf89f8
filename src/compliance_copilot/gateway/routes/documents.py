"""`/documents`: whoever is shown a quote can open what it was taken from."""

from datetime import datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from compliance_copilot.core.errors import InvalidRequest, NotFound
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import DocumentReader, DocumentWriter
from compliance_copilot.gateway.bodies import json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import (
    DocumentInfoBody,
    DocumentList,
    ErasureBody,
    VersionList,
)
from compliance_copilot.gateway.replying import Cursor, Limit, id_of, json_reply, page
from compliance_copilot.gateway.routes.erasures import erasure_reply
from compliance_copilot.gateway.schemas import DocumentPatch
from compliance_copilot.gateway.state import service_of
from compliance_copilot.rag.documents import DocumentFilter
from compliance_copilot.rag.revising import Revision

router = APIRouter(tags=["documents"])
DocumentId = Annotated[str, Path(description="As given to, or made by, `/ingest`.")]
Text = Annotated[str | None, Query(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")]


def _where(
    title: Text = None,
    source: Text = None,
    metadata: Text = None,
    updated_since: AwareDatetime | None = None,
) -> DocumentFilter:
    """Read the filters: a part of the title, the beginning of the source's path, metadata as a JSON
    object whose members a document must have, the instant of the last change.
    """
    if updated_since is not None:
        updated_since = storable(updated_since, "updated_since")
    if metadata is None:
        return DocumentFilter(title, source, None, updated_since)
    try:
        members = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        members = None
    if not isinstance(members, dict) or "\\u0000" in metadata:
        raise InvalidRequest("metadata: this is not a JSON object.", field="metadata")
    return DocumentFilter(title, source, members, updated_since)


def storable(instant: datetime, field: str) -> datetime:
    """Return an instant that the database knows. Raises InvalidRequest."""
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise InvalidRequest(f"{field}: no document is from then.", field=field)
    return instant


Where = Annotated[DocumentFilter, Depends(_where)]
_FIRST_YEAR, _LAST_YEAR = 1900, 9000
_READERS = [Scope.QUERY, Scope.INGEST]
_LARGEST_VERSION_DIGITS = 9
_LONGEST_ID = 255


@router.get(
    "/documents",
    summary="List documents",
    **documented(DocumentList, scopes=_READERS, errors=(422, 504)),
)
async def list_documents(
    request: Request,
    caller: DocumentReader,
    where: Where,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Return the tenant's documents in the order of their ids."""
    found = await service_of(request).copilot.documents.list(
        caller.tenant_id, after=id_of(cursor), limit=limit + 1, where=where
    )
    return json_reply(page("documents", found, limit, [d.document_id for d in found]))


@router.get(
    "/documents/{document_id}",
    summary="Read a document's current version",
    **documented(DocumentInfoBody, scopes=_READERS, errors=(404, 422, 504)),
)
async def read_document(
    request: Request, caller: DocumentReader, document_id: DocumentId
) -> Response:
    """Return what is known about a document."""
    documents = service_of(request).copilot.documents
    return json_reply(await documents.require(caller.tenant_id, _known_form(document_id)))


@router.patch(
    "/documents/{document_id}",
    summary="Change a document's title or metadata",
    **documented(
        DocumentInfoBody, accepts=DocumentPatch, scopes=[Scope.INGEST], errors=(404, 409, 429, 504)
    ),
)
async def change_document(
    request: Request,
    caller: DocumentWriter,
    document_id: DocumentId,
    body: Annotated[DocumentPatch, json_body(DocumentPatch)],
) -> Response:
    """Give a document its next version: same text, nothing embedded; the old one stays as it is."""
    copilot = service_of(request).copilot
    revision = Revision(**body.model_dump(exclude_unset=True))
    known = _known_form(document_id)
    return json_reply(await copilot.revise(caller.tenant_id, known, revision))


@router.delete(
    "/documents/{document_id}",
    summary="Delete a document with all its versions",
    **documented(ErasureBody, status=202, scopes=[Scope.INGEST], errors=(404, 409, 422, 504)),
)
async def delete_document(
    request: Request, caller: DocumentWriter, document_id: DocumentId
) -> Response:
    """Erase a document and all that shows it; no question finds it from now on."""
    erasing = service_of(request).erasing
    known = _known_form(document_id)
    return erasure_reply(
        await erasing.document(caller.tenant_id, known, requested_by=caller.principal.key_id)
    )


@router.get(
    "/documents/{document_id}/versions",
    summary="List a document's versions",
    **documented(VersionList, scopes=_READERS, errors=(404, 422, 504)),
)
async def list_versions(
    request: Request, caller: DocumentReader, document_id: DocumentId
) -> Response:
    """Return every stored version of a document."""
    documents = service_of(request).copilot.documents
    found = await documents.versions(caller.tenant_id, _known_form(document_id))
    return json_reply({"versions": found, "next_cursor": None})


@router.get(
    "/documents/{document_id}/versions/{version}/text",
    summary="Read the text of a version",
    **documented(str, scopes=_READERS, errors=(404, 410, 422, 504)),
)
async def read_text(
    request: Request, caller: DocumentReader, document_id: DocumentId, version: str
) -> Response:
    """Return the text exactly as stored: offsets of quotes count its code points."""
    if not (version.isascii() and version.isdecimal()) or len(version) > _LARGEST_VERSION_DIGITS:
        raise NotFound("There is no such version.", kind="version")
    documents = service_of(request).copilot.documents
    text = await documents.text(caller.tenant_id, _known_form(document_id), int(version))
    return PlainTextResponse(text)


def _known_form(document_id: str) -> str:
    """Return an id that could exist: the database is not asked for one that could not."""
    if not document_id.isprintable() or len(document_id) > _LONGEST_ID:
        raise NotFound("There is no such document.", kind="document")
    return document_id
