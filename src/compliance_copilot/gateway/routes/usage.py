"""`GET /usage` and `/usage/statement`: the rows of the ledger, and a month as an invoice has it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.billing.ledger import UsageFilter
from compliance_copilot.billing.statements import csv_of, focus_of
from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import Operation, Principal, Scope, TenantId
from compliance_copilot.gateway.authentication import anyone_with, tenant_for, verify_tenant
from compliance_copilot.gateway.documentation import documented, or_text
from compliance_copilot.gateway.record_schemas import StatementBody, UsageList
from compliance_copilot.gateway.replying import Cursor, Limit, json_reply
from compliance_copilot.gateway.state import service_of
from compliance_copilot.rag.filter_language import Instant
from compliance_copilot.storage.audit import AuditEntry

router = APIRouter(tags=["usage"])
Tenant = Annotated[
    str | None, Query(max_length=255, description="The operator names the tenant here.")
]
Month = Annotated[
    str | None,
    Query(pattern=r"^2\d{3}-(0[1-9]|1[0-2])$", description="Default: the present month (UTC)."),
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


class StatementFormat(StrEnum):
    """How a statement is written."""

    JSON = "json"
    CSV = "csv"
    FOCUS = "focus"


@router.get(
    "/usage/statement",
    summary="A month as an invoice has it",
    **or_text(
        documented(StatementBody, scopes=[Scope.USAGE_READ], errors=(404, 422, 504)), "text/csv"
    ),
)
async def statement(
    request: Request,
    principal: Annotated[Principal, anyone_with(Scope.USAGE_READ)],
    month: Month = None,
    written_as: Annotated[StatementFormat, Query(alias="format")] = StatementFormat.JSON,
    tenant_id: Tenant = None,
) -> Response:
    """Return the lines of a month (UTC); they add up to the ledger. `complete` false: not final."""
    tenant = await _tenant_of(request, principal, tenant_id)
    named = month or utc_now().strftime("%Y-%m")
    service = service_of(request)
    drawn = await service.copilot.statements.draw(tenant, named)
    entry = AuditEntry("statement.exported", f"month:{named}", {"format": written_as.value})
    await service.audit.record(tenant, entry)
    if written_as is StatementFormat.JSON:
        return json_reply(drawn)
    text = csv_of(drawn) if written_as is StatementFormat.CSV else focus_of(drawn)
    name = f'attachment; filename="statement-{drawn.tenant_id}-{drawn.month}.csv"'
    return Response(text, media_type="text/csv", headers={"Content-Disposition": name})


async def _tenant_of(request: Request, principal: Principal, named: str | None) -> TenantId:
    if principal.tenant_id is not None:
        verify_tenant(principal, named)
        return principal.tenant_id
    if named is None:
        raise InvalidRequest("tenant_id: the operator names the tenant.", field="tenant_id")
    return await tenant_for(request, principal, named)
