"""`/tenants/{id}/config` and `/system/config`: the layers of the cascade."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import Operator, TenantAdministrator
from compliance_copilot.gateway.bodies import json_body
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import ConfigReply, EffectiveConfigReply
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.schemas import ConfigBody
from compliance_copilot.gateway.state import service_of
from compliance_copilot.tenancy.cascade import TENANT, ValueOrigin

router = APIRouter(tags=["configuration"])
_ADMINISTRATORS = [Scope.TENANT_ADMIN]
_OPERATOR = [Scope.PLATFORM_ADMIN]


@router.get(
    "/tenants/{tenant_id}/config",
    summary="The tenant's own values",
    **documented(ConfigReply, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def read_config(request: Request, tenant_id: TenantAdministrator) -> Response:
    """Return the values that the tenant has set, without what it inherits."""
    version, origins = await service_of(request).config.explain(tenant_id)
    return json_reply({"version": version, "config": _own(origins)})


@router.patch(
    "/tenants/{tenant_id}/config",
    summary="Set values of the tenant",
    **documented(ConfigReply, accepts=ConfigBody, scopes=_ADMINISTRATORS, errors=(404, 504)),
)
async def change_config(
    request: Request,
    tenant_id: TenantAdministrator,
    body: Annotated[ConfigBody, json_body(ConfigBody)],
) -> Response:
    """Set values; in force for the next request on every worker."""
    config = service_of(request).config
    await config.update_tenant_config(
        tenant_id, set_by=request.state.principal.key_id, **body.values()
    )
    version, origins = await config.explain(tenant_id)
    return json_reply({"version": version, "config": _own(origins)})


@router.get(
    "/tenants/{tenant_id}/config/effective",
    summary="What holds, and where each value comes from",
    **documented(EffectiveConfigReply, scopes=_ADMINISTRATORS, errors=(404, 422, 504)),
)
async def read_effective(request: Request, tenant_id: TenantAdministrator) -> Response:
    """Return each value with its layer, who set it and when."""
    version, origins = await service_of(request).config.explain(tenant_id)
    return json_reply({"version": version, "values": origins})


@router.get(
    "/system/config",
    summary="The system defaults",
    **documented(EffectiveConfigReply, scopes=_OPERATOR, errors=(504,)),
)
async def read_system(request: Request, operator: Operator) -> Response:  # noqa: ARG001
    """Return each system default with who set it and when."""
    version, origins = await service_of(request).config.explain_system()
    return json_reply({"version": version, "values": origins})


@router.patch(
    "/system/config",
    summary="Set system defaults",
    **documented(EffectiveConfigReply, accepts=ConfigBody, scopes=_OPERATOR, errors=(504,)),
)
async def change_system(
    request: Request, operator: Operator, body: Annotated[ConfigBody, json_body(ConfigBody)]
) -> Response:
    """Set defaults for all tenants; what a tenant has set itself stays."""
    config = service_of(request).config
    await config.set_system_defaults(set_by=operator.key_id, **body.values())
    version, origins = await config.explain_system()
    return json_reply({"version": version, "values": origins})


def _own(origins: Mapping[str, ValueOrigin]) -> dict[str, Any]:
    return {name: o.value for name, o in origins.items() if o.layer == TENANT}
