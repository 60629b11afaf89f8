"""`/tenants/{id}/provider-keys/{provider}`: a tenant's own key with a vendor, never shown again."""

from typing import Annotated, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import TenantAdministrator
from compliance_copilot.gateway.bodies import json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.key_schemas import ProviderKeyBody
from compliance_copilot.gateway.record_schemas import ProviderKeyReply
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.state import service_of

router = APIRouter(tags=["provider keys"])
_ADMINISTRATORS = [Scope.TENANT_ADMIN]
_PATH = "/tenants/{tenant_id}/provider-keys/{provider}"
Provider = Literal["openai", "anthropic"]


@router.put(
    _PATH,
    summary="Use the tenant's own key with a vendor",
    **documented(
        ProviderKeyReply,
        accepts=ProviderKeyBody,
        scopes=_ADMINISTRATORS,
        errors=(404, 504),
    ),
)
async def put_provider_key(
    request: Request,
    tenant_id: TenantAdministrator,
    provider: Provider,
    body: Annotated[ProviderKeyBody, json_body(ProviderKeyBody)],
) -> Response:
    """Keep a key, encrypted, in place of one before; in force for the next question."""
    kept = await service_of(request).provider_keys.put(
        tenant_id, provider, body.key, set_by=request.state.principal.key_id
    )
    return json_reply(kept)


@router.get(
    _PATH,
    summary="Whether a key is set, since when, and its last four characters",
    **documented(ProviderKeyReply, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def read_provider_key(
    request: Request, tenant_id: TenantAdministrator, provider: Provider
) -> Response:
    """Tell about a key without showing it."""
    return json_reply(await service_of(request).provider_keys.require(tenant_id, provider))


@router.delete(
    _PATH,
    summary="Forget the tenant's own key",
    **documented(None, status=204, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def delete_provider_key(
    request: Request, tenant_id: TenantAdministrator, provider: Provider
) -> Response:
    """Forget a key; the service's own is used again, if there is one."""
    await service_of(request).provider_keys.delete(tenant_id, provider)
    return Response(status_code=204)
