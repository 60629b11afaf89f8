"""Receipts of erasures: to the tenant, and to the operator when the tenant is no more."""

from dataclasses import asdict
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import Scope, TenantId
from compliance_copilot.gateway.authentication import ErasureReader, ReceiptReader
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import ErasureBody
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.state import service_of
from compliance_copilot.tenancy.erasures import Receipt

router = APIRouter(tags=["erasures"])
_READERS = [Scope.INGEST, Scope.TENANT_ADMIN]


@router.get(
    "/erasures/{erasure_id}",
    summary="Read how far an erasure is; at the end, its signed receipt",
    **documented(ErasureBody, scopes=_READERS, errors=(404, 422, 504)),
)
async def read_erasure(request: Request, caller: ErasureReader, erasure_id: str) -> Response:
    """Return what was erased, how many rows, and what a search for more of it has found."""
    return await _receipt(request, caller.tenant_id, erasure_id)


@router.get(
    "/tenants/{tenant_id}/erasures/{erasure_id}",
    summary="Read the receipt of a tenant's erasure",
    **documented(
        ErasureBody, scopes=[Scope.TENANT_ADMIN, Scope.PLATFORM_ADMIN], errors=(404, 422, 504)
    ),
)
async def read_tenants_erasure(
    request: Request, tenant_id: ReceiptReader, erasure_id: str
) -> Response:
    """Return the same, also for a tenant that is no more."""
    return await _receipt(request, tenant_id, erasure_id)


async def _receipt(request: Request, tenant_id: TenantId, erasure_id: str) -> Response:
    try:
        known = UUID(erasure_id)
    except ValueError:
        raise NotFound("There is no such erasure.", kind="erasure") from None
    return json_reply(_body(await service_of(request).erasing.store.require(tenant_id, known)))


def erasure_reply(receipt: Receipt) -> Response:
    """Return the receipt of an erasure as far as it is, and where to read it again."""
    headers = {"Location": f"/erasures/{receipt.erasure_id}"}
    return json_reply(_body(receipt), status=202, headers=headers)


def _body(receipt: Receipt) -> dict[str, object]:
    return asdict(receipt)
