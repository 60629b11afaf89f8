"""`GET /usage`: the rows of the ledger."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.billing.ledger import UsageFilter
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import Operation, Principal, Scope, TenantId
from compliance_copilot.gateway.authentication import anyone_with, tenant_for, verify_tenant
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import UsageList
from compliance_copilot.gateway.replying import Cursor, Limit, json_reply
from compliance_copilot.gateway.schemas import Instant
from compliance_copilot.gateway.state import service_of

router = APIRouter(tags=["usage"])
Tenant = Annotated[
    str | None, Query(max_length=255, description="The operator names the tenant here.")
]


async def _window(
    operation: Operation | None = None,
    since: Instant | None = None,
    until: Instant | None = None,
) -> tuple[Operation | None, datetime | None, datetime | None]:
    return operation, since, until


@router.get(
    "/usage",
    summary="The ledger, row by row",
    **documented(UsageList, scopes=[Scope.USAGE_READ], errors=(404, 422, 504)),
)
async def usage(
    request: Request,
    principal: Annotated[Principal, anyone_with(Scope.USAGE_READ)],
    window: Annotated[tuple[Operation | None, datetime | None, datetime | None], Depends(_window)],
    tenant_id: Tenant = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Return usage events, newest first: one per attempt."""
    tenant = await _tenant_of(request, principal, tenant_id)
    operation, since, until = window
    events, next_cursor = await service_of(request).copilot.usage.list(
        tenant, wanted=UsageFilter(operation, since, until), cursor=cursor, limit=limit
    )
    return json_reply({"events": events, "next_cursor": next_cursor})


async def _tenant_of(request: Request, principal: Principal, named: str | None) -> TenantId:
    if principal.tenant_id is not None:
        verify_tenant(principal, named)
        return principal.tenant_id
    if named is None:
        raise InvalidRequest("tenant_id: the operator names the tenant.", field="tenant_id")
    return await tenant_for(request, principal, named)
