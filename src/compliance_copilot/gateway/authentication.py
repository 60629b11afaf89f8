"""Who calls, and whether they may: the key decides, and it alone names the tenant."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from compliance_copilot.core.acting import Actor, act_as
from compliance_copilot.core.errors import (
    Forbidden,
    LimitReached,
    NotFound,
    TenantMismatch,
    Unauthenticated,
)
from compliance_copilot.core.vocabulary import Principal, Scope, TenantId
from compliance_copilot.gateway.problems import request_id_of
from compliance_copilot.gateway.state import gateway_of, service_of, working_service_of
from compliance_copilot.telemetry import requests
from compliance_copilot.tenancy.tenants import TENANT_ID

_LONGEST_KEY = 512
_HOW = "Send it as `Authorization: Bearer <key>` or `X-API-Key: <key>`."


@dataclass(frozen=True, slots=True)
class Caller:
    """A tenant's principal: who asks, and for whom everything is done."""

    principal: Principal
    tenant_id: TenantId
    since_seconds: float | None = None
    """When, by the monotonic clock, the request was complete: its deadline counts from here."""


def presented_key(request: Request) -> str | None:
    """Return the key that the request carries. Raises Unauthenticated for two different ones."""
    keys = set()
    for name, raw in request.scope["headers"]:
        value = raw.decode("utf-8", "replace").strip()
        if name == b"x-api-key":
            keys.add(value)
        elif name == b"authorization":
            scheme, _, rest = value.partition(" ")
            keys.add(rest.strip() if scheme.lower() == "bearer" else "")
    if len(keys) > 1:
        raise Unauthenticated(f"The request carries more than one key. {_HOW}")
    return next(iter(keys), None) or None


async def principal_of(request: Request, *, fresh: bool) -> Principal:
    """Return who calls. Raises Unauthenticated, and Forbidden for a suspended tenant's key.

    Without `fresh` admission tells whether the tenant is suspended.
    """
    principal = await identified(request, fresh=fresh)
    if fresh and principal.suspended:
        raise Forbidden("This tenant is suspended.")
    return principal


async def identified(request: Request, *, fresh: bool) -> Principal:
    """Return who calls, suspended or not. Raises Unauthenticated."""
    service = service_of(request)
    secret = presented_key(request)
    if secret is None:
        raise _unauthenticated(request, "The request carries no API key.")
    if len(secret) > _LONGEST_KEY:
        raise _unauthenticated(request, "The API key is not valid.")
    attempts, address = gateway_of(request).attempts, _address(request)
    wait = attempts.wait_seconds(address)
    if wait and not service.keys.knows(secret):
        raise LimitReached(
            "Too many keys from this address were not valid.",
            limit="failed_authentications",
            retry_after_seconds=ceil(wait),
        )
    principal = await service.keys.identify(secret, fresh=fresh)
    if principal is None:
        attempts.note(address)
        raise _unauthenticated(request, "The API key is unknown, revoked or expired.")
    if principal.tenant_id is not None:
        requests.note_tenant(principal.tenant_id)
    act_as(_actor(request, principal))
    return principal


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _actor(request: Request, principal: Principal) -> Actor:
    tenants = principal.tenant_id is not None
    name = f"key:{principal.key_id}" if tenants else principal.key_id
    return Actor(name, principal.name, request_id_of(request))


def _unauthenticated(request: Request, what: str) -> Unauthenticated:
    deployment = gateway_of(request).deployment
    hint = deployment.key_hint if deployment.environment == "development" else None
    return Unauthenticated(f"{what} {_HOW}" + (f" {hint}" if hint else ""))


def require_scope(principal: Principal, *any_of: Scope) -> None:
    """Raise Forbidden when the principal has none of the scopes."""
    if not principal.scopes.intersection(any_of):
        names = " or ".join(any_of)
        raise Forbidden(f"This needs a key with the scope {names}.", required_scope=names)


def caller_of(principal: Principal, since_seconds: float | None = None) -> Caller:
    """Return the tenant's caller. Raises Forbidden for the operator: no content is theirs."""
    if principal.tenant_id is None:
        raise Forbidden("The platform key does not read or write a tenant's content.")
    return Caller(principal, principal.tenant_id, since_seconds)


def verify_tenant(principal: Principal, named: str | None) -> None:
    """Raise TenantMismatch when a body, path or query names another tenant, existing or not."""
    if named is not None and principal.tenant_id != named:
        raise TenantMismatch("The key belongs to another tenant than the one named.")


def admitted(scope: Scope, *, fresh: bool = False) -> Any:
    """Return the dependency for work whose admission looks at the key once more.

    `fresh`: it is looked at here, too, before a large body is read.
    """

    async def authenticate(request: Request) -> Caller:
        return await admitted_caller(request, scope, fresh=fresh)

    return _depends(authenticate)


async def admitted_caller(request: Request, scope: Scope, *, fresh: bool = False) -> Caller:
    """Return who calls for work of `admitted`. Raises Unauthenticated, Forbidden."""
    working_service_of(request)
    began = time.monotonic()
    principal = await principal_of(request, fresh=fresh)
    caller = caller_of(principal, None if fresh else began)
    require_scope(principal, scope)
    return caller


def reader(*any_of: Scope) -> Any:
    """Return the dependency for a tenant's own content: a fresh look at the key."""

    async def authenticate(request: Request) -> Caller:
        caller = caller_of(await principal_of(request, fresh=True))
        require_scope(caller.principal, *any_of)
        return caller

    return _depends(authenticate)


def anyone_with(*any_of: Scope) -> Any:
    """Return the dependency for keys of tenants and the platform alike."""

    async def authenticate(request: Request) -> Principal:
        principal = await principal_of(request, fresh=True)
        require_scope(principal, *any_of)
        return principal

    return _depends(authenticate)


async def _whoever(request: Request) -> Principal:
    return await identified(request, fresh=True)


def _depends(dependency: Callable[[Request], Awaitable[object]]) -> Any:
    return Depends(dependency)


async def _tenant_administrator(request: Request, tenant_id: str) -> TenantId:
    return await _named_tenant(request, tenant_id, Scope.TENANT_ADMIN)


async def _usage_reader(request: Request, tenant_id: str) -> TenantId:
    return await _named_tenant(request, tenant_id, Scope.USAGE_READ)


async def _anyone_of_tenant(request: Request, tenant_id: str) -> TenantId:
    return await _named_tenant(request, tenant_id, *Scope)


async def _named_tenant(request: Request, tenant_id: str, *any_of: Scope) -> TenantId:
    principal = await principal_of(request, fresh=True)
    if principal.tenant_id is not None:
        verify_tenant(principal, tenant_id)
    require_scope(principal, *any_of)
    request.state.principal = principal
    return await tenant_for(request, principal, tenant_id)


async def _receipt_reader(request: Request, tenant_id: str) -> TenantId:
    """Return the tenant, one that is no more included: its receipts outlive it."""
    principal = await principal_of(request, fresh=True)
    if principal.tenant_id is not None:
        verify_tenant(principal, tenant_id)
    require_scope(principal, Scope.TENANT_ADMIN, Scope.PLATFORM_ADMIN)
    if not TENANT_ID.fullmatch(tenant_id):
        raise NotFound("There is no such tenant.", kind="tenant")
    return TenantId(tenant_id)


async def tenant_for(request: Request, principal: Principal, tenant_id: str) -> TenantId:
    """Return the tenant that a principal names. Raises UnknownTenant to the operator only: a
    tenant's key that names another was refused before.
    """
    if principal.tenant_id is not None:
        return principal.tenant_id
    if not TENANT_ID.fullmatch(tenant_id):
        raise NotFound("There is no such tenant.", kind="tenant")
    return (await service_of(request).tenants.require(TenantId(tenant_id))).tenant_id


TenantAdministrator = Annotated[TenantId, Depends(_tenant_administrator)]
UsageReader = Annotated[TenantId, Depends(_usage_reader)]
AnyoneOfTenant = Annotated[TenantId, Depends(_anyone_of_tenant)]
Operator = Annotated[Principal, anyone_with(Scope.PLATFORM_ADMIN)]
ReceiptReader = Annotated[TenantId, Depends(_receipt_reader)]
ErasureReader = Annotated[Caller, reader(Scope.INGEST, Scope.TENANT_ADMIN)]
EveryPrincipal = Annotated[Principal, Depends(_whoever)]
IngestCaller = Annotated[Caller, admitted(Scope.INGEST)]
UploadCaller = Annotated[Caller, admitted(Scope.INGEST, fresh=True)]
AnswerReader = Annotated[Caller, reader(Scope.QUERY)]
DocumentReader = Annotated[Caller, reader(Scope.QUERY, Scope.INGEST)]
DocumentWriter = Annotated[Caller, reader(Scope.INGEST)]
