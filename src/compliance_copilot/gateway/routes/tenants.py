"""`/tenants`, `/tenants/{id}/limits` and `/whoami`."""

from typing import Annotated

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import UnknownTenant
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import (
    AnyoneOfTenant,
    EveryPrincipal,
    Operator,
    tenant_for,
)
from compliance_copilot.gateway.bodies import json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import (
    ErasureBody,
    NewTenantReply,
    TenantBody,
    TenantList,
    WhoAmI,
)
from compliance_copilot.gateway.replying import Cursor, Limit, id_of, json_reply, page
from compliance_copilot.gateway.routes.erasures import erasure_reply
from compliance_copilot.gateway.schemas import NewTenantBody, TenantPatch
from compliance_copilot.gateway.state import service_of
from compliance_copilot.tenancy.tenants import NewTenant, TenantChange

router = APIRouter(tags=["tenants"])
_OPERATOR = [Scope.PLATFORM_ADMIN]


@router.post(
    "/tenants",
    summary="Make a tenant and its first key",
    **documented(
        NewTenantReply,
        status=201,
        accepts=NewTenantBody,
        scopes=_OPERATOR,
        errors=(409, 504),
    ),
)
async def create_tenant(
    request: Request,
    operator: Operator,
    body: Annotated[NewTenantBody, json_body(NewTenantBody)],
) -> Response:
    """Make a tenant; the secret of its first key is shown this once."""
    given = body.model_dump(exclude_unset=True)
    new = NewTenant(body.tenant_id, body.name, given.get("config", {}), given.get("limits", {}))
    tenant, key = await service_of(request).tenants.create(new, set_by=operator.key_id)
    return json_reply({"tenant": tenant, "api_key": key}, status=201)


@router.get(
    "/tenants",
    summary="List tenants",
    **documented(TenantList, scopes=_OPERATOR, errors=(422, 504)),
)
async def list_tenants(
    request: Request,
    operator: Operator,  # noqa: ARG001
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Return the tenants in the order of their ids."""
    store = service_of(request).tenants
    ids = await store.list_ids(after=id_of(cursor) or "", limit=limit + 1)
    shown = page("tenants", ids, limit, ids)
    tenants = []
    for tenant_id in shown["tenants"]:
        try:
            tenants.append(await store.require(tenant_id))
        except UnknownTenant:  # deleted since its id was read
            continue
    return json_reply({**shown, "tenants": tenants})


@router.get(
    "/tenants/{tenant_id}",
    summary="Read a tenant",
    **documented(TenantBody, scopes=_OPERATOR, errors=(404, 422, 504)),
)
async def read_tenant(request: Request, operator: Operator, tenant_id: str) -> Response:
    """Return a tenant with its own configuration and limits."""
    known = await tenant_for(request, operator, tenant_id)
    return json_reply(await service_of(request).tenants.require(known))


@router.patch(
    "/tenants/{tenant_id}",
    summary="Rename, suspend, activate, or change limits",
    **documented(TenantBody, accepts=TenantPatch, scopes=_OPERATOR, errors=(404, 409, 504)),
)
async def change_tenant(
    request: Request,
    operator: Operator,
    tenant_id: str,
    body: Annotated[TenantPatch, json_body(TenantPatch)],
) -> Response:
    """Change a tenant; in force for the next request on every worker."""
    known = await tenant_for(request, operator, tenant_id)
    change = TenantChange(**body.model_dump(exclude_unset=True))
    return json_reply(await service_of(request).tenants.update(known, change))


@router.delete(
    "/tenants/{tenant_id}",
    summary="Delete a tenant",
    **documented(ErasureBody, status=202, scopes=_OPERATOR, errors=(404, 409, 422, 504)),
)
async def delete_tenant(request: Request, operator: Operator, tenant_id: str) -> Response:
    """End a tenant and erase all it has: its keys stop now and its id is never used again."""
    known = await tenant_for(request, operator, tenant_id)
    erasing = service_of(request).erasing
    return erasure_reply(await erasing.tenant(known, requested_by=operator.key_id))


@router.get(
    "/tenants/{tenant_id}/limits",
    summary="Limits, with the use so far",
    **documented(dict, scopes=list(Scope), errors=(404, 422, 504)),
)
async def read_limits(request: Request, tenant_id: AnyoneOfTenant) -> Response:
    """Return each limit and what is used of it."""
    return json_reply(await service_of(request).copilot.limits(tenant_id))


@router.get("/whoami", summary="Who the key is", **documented(WhoAmI, scopes=list(Scope)))
async def whoami(principal: EveryPrincipal) -> Response:
    """Return the tenant, the name and the scopes of the key."""
    return json_reply(
        {
            "tenant_id": principal.tenant_id,
            "key_id": principal.key_id,
            "name": principal.name,
            "scopes": sorted(principal.scopes),
            "expires_at": principal.expires_at,
        }
    )
