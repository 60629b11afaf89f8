"""`/audit`: what was changed, by whom and when, and whether the log is still what it was."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import Principal, Scope, TenantId
from compliance_copilot.gateway.authentication import anyone_with, tenant_for, verify_tenant
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import AuditList, AuditVerdictBody
from compliance_copilot.gateway.replying import Cursor, Limit, id_of, json_reply, page
from compliance_copilot.gateway.state import service_of
from compliance_copilot.rag.filter_language import Instant
from compliance_copilot.storage.audit import SYSTEM_CHAIN
from compliance_copilot.storage.audit_chain import ChainedEntry
from compliance_copilot.tenancy.audit import AuditFilter

router = APIRouter(tags=["audit"])
_ADMINISTRATORS = [Scope.TENANT_ADMIN]
_MOST_DIGITS = 18
Text = Annotated[str | None, Query(min_length=1, max_length=300, pattern=r"^[^\x00]*$")]
Administrator = Annotated[Principal, anyone_with(Scope.TENANT_ADMIN)]
Tenant = Annotated[
    str | None,
    Query(max_length=255, description="The operator names a tenant; without, the system's log."),
]


async def _wanted(
    action: Text = None,
    actor: Text = None,
    subject: Text = None,
    since: Instant | None = None,
    until: Instant | None = None,
) -> AuditFilter:
    return AuditFilter(action, actor, subject, since, until)


@router.get(
    "/audit",
    summary="What was changed, by whom",
    **documented(AuditList, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def read_audit(
    request: Request,
    principal: Administrator,
    wanted: Annotated[AuditFilter, Depends(_wanted)],
    tenant_id: Tenant = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """Return entries, newest first. The operator's own log is that of the system."""
    chain = await _chain_of(request, principal, tenant_id)
    found = await service_of(request).audit.list(
        chain, wanted, before=_position(cursor), limit=limit + 1
    )
    positions = [str(entry.seq) for entry in found]
    return json_reply(page("entries", [_shown(entry) for entry in found], limit, positions))


@router.get(
    "/audit/verify",
    summary="Is the log what it was?",
    **documented(AuditVerdictBody, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def verify_audit(
    request: Request, principal: Administrator, tenant_id: Tenant = None
) -> Response:
    """Compare every entry with its hash, its predecessor and the signed checkpoints."""
    chain = await _chain_of(request, principal, tenant_id)
    return json_reply(await service_of(request).audit.verify(chain))


async def _chain_of(request: Request, principal: Principal, named: str | None) -> TenantId:
    if principal.tenant_id is not None:
        verify_tenant(principal, named)
        return principal.tenant_id
    return SYSTEM_CHAIN if named is None else await tenant_for(request, principal, named)


def _position(cursor: str | None) -> int | None:
    last = id_of(cursor)
    if last is None:
        return None
    if not (last.isascii() and last.isdecimal()) or len(last) > _MOST_DIGITS:
        raise InvalidRequest("cursor: this is not a cursor of this list.", field="cursor")
    return int(last)


def _shown(entry: ChainedEntry) -> dict[str, Any]:
    names = ("seq", "at", "actor", "actor_name", "action", "subject")
    shown = {name: getattr(entry, name) for name in names}
    request_id = entry.request_id or None
    details = orjson.loads(entry.details)
    return {**shown, "request_id": request_id, "details": details, "hash": entry.hash.hex()}
