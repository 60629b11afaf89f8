"""`/tenants/{id}/keys`: make, list, revoke, rotate. A secret is shown once."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import InvalidRequest, NotFound
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import TenantAdministrator
from compliance_copilot.gateway.bodies import json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.key_schemas import NewKeyBody, RotationBody
from compliance_copilot.gateway.record_schemas import IssuedKeyBody, KeyList
from compliance_copilot.gateway.replying import Cursor, Limit, id_of, json_reply, page
from compliance_copilot.gateway.state import service_of

router = APIRouter(tags=["keys"])
_ADMINISTRATORS = [Scope.TENANT_ADMIN]


@router.post(
    "/tenants/{tenant_id}/keys",
    summary="Make a key",
    **documented(
        IssuedKeyBody,
        status=201,
        accepts=NewKeyBody,
        scopes=_ADMINISTRATORS,
        errors=(404, 409, 504),
    ),
)
async def create_key(
    request: Request,
    tenant_id: TenantAdministrator,
    body: Annotated[NewKeyBody, json_body(NewKeyBody)],
) -> Response:
    """Make a key of the tenant with some of its scopes."""
    key = await service_of(request).keys.create(
        tenant_id,
        name=body.name,
        scopes=tuple(Scope(scope) for scope in body.scopes),
        expires_in_days=body.expires_in_days,
    )
    return json_reply(key, status=201)


@router.get(
    "/tenants/{tenant_id}/keys",
    summary="List keys",
    **documented(KeyList, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def list_keys(
    request: Request, tenant_id: TenantAdministrator, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Return the tenant's keys, oldest first, without secrets."""
    found = await service_of(request).keys.list(tenant_id, after=_after(cursor), limit=limit + 1)
    return json_reply(page("keys", found, limit, [str(key.key_id) for key in found]))


@router.delete(
    "/tenants/{tenant_id}/keys/{key_id}",
    summary="Revoke a key",
    **documented(None, status=204, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def revoke_key(request: Request, tenant_id: TenantAdministrator, key_id: str) -> Response:
    """End a key now, on every worker."""
    await service_of(request).keys.revoke(tenant_id, _key_id(key_id))
    return Response(status_code=204)


@router.post(
    "/tenants/{tenant_id}/keys/{key_id}/rotate",
    summary="Make a key's successor",
    **documented(
        IssuedKeyBody,
        status=201,
        accepts=RotationBody,
        scopes=_ADMINISTRATORS,
        errors=(404, 409, 504),
    ),
)
async def rotate_key(
    request: Request,
    tenant_id: TenantAdministrator,
    key_id: str,
    body: Annotated[RotationBody, json_body(RotationBody, optional=True)],
) -> Response:
    """Make a key with the same name and scopes; the old one ends after the overlap."""
    key = await service_of(request).keys.rotate(
        tenant_id, _key_id(key_id), overlap=timedelta(seconds=body.overlap_seconds)
    )
    return json_reply(key, status=201)


def _key_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such key.", kind="key") from None


def _after(cursor: str | None) -> UUID | None:
    last = id_of(cursor)
    try:
        return UUID(last) if last is not None else None
    except ValueError:
        raise InvalidRequest("cursor: this is not a cursor of this list.", field="cursor") from None
