"""Tenants: create, list, read, change. Ids are never reused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import Conflict, InvalidRequest, UnknownTenant
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.audit import SYSTEM_CHAIN, AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.tenancy.cascade import checked_config, checked_limits
from compliance_copilot.tenancy.keys import IssuedKey, insert_key

TENANT_ID = re.compile(r"[a-z0-9][a-z0-9_-]{1,62}")
_COLUMNS = "tenant_id, name, status, config, limits, version, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The paying organisation, as the operator sees it."""

    tenant_id: TenantId
    name: str
    status: str
    config: Mapping[str, Any]
    limits: Mapping[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewTenant:
    """What a tenant is made of."""

    tenant_id: str
    name: str
    config: Mapping[str, Any]
    limits: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TenantChange:
    """What is changed about a tenant; None leaves it as it is."""

    name: str | None = None
    status: str | None = None
    limits: Mapping[str, Any] | None = None


def checked_tenant_id(value: str) -> TenantId:
    """Return the id. Raises InvalidRequest when it is not one."""
    if not TENANT_ID.fullmatch(value):
        raise InvalidRequest(
            "A tenant id has 2-63 characters: a-z, 0-9, _ and -, a letter or digit first.",
            field="tenant_id",
        )
    return TenantId(value)


def stamped(values: Mapping[str, Any], set_by: str) -> dict[str, Any]:
    """Return field -> {value, set_by, set_at}: the stored form of a layer."""
    now = utc_now().isoformat()
    return {n: {"value": v, "set_by": set_by, "set_at": now} for n, v in values.items()}


class TenantStore:
    """The tenants of this deployment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, new: NewTenant, *, set_by: str, with_key: bool = True
    ) -> tuple[Tenant, IssuedKey | None]:
        """Make a tenant and its first key. Raises InvalidRequest, or Conflict when the id was
        ever used.
        """
        tenant_id = checked_tenant_id(new.tenant_id)
        config = stamped(checked_config(new.config), set_by)
        limits = checked_limits(new.limits)
        async with self._database.transaction(tenant_id) as connection:
            await _claim_id(connection, tenant_id)
            row = await connection.fetchrow(
                f"INSERT INTO tenants (tenant_id, name, config, limits)"  # noqa: S608
                f" VALUES ($1, $2, $3::jsonb, $4::jsonb) RETURNING {_COLUMNS}",
                tenant_id,
                new.name,
                orjson.dumps(config).decode(),
                orjson.dumps(limits).decode(),
            )
            await connection.execute("INSERT INTO corpora (tenant_id) VALUES ($1)", tenant_id)
            key = await insert_key(connection, tenant_id, name="first key") if with_key else None
            facts = {"config": checked_config(new.config), "limits": limits}
            await _audited(connection, tenant_id, "tenant.created", facts)
        return _tenant(row), key

    async def require(self, tenant_id: TenantId) -> Tenant:
        """Return the tenant. Raises UnknownTenant."""
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM tenants WHERE tenant_id = $1",  # noqa: S608
                tenant_id,
            )
        if row is None or row["status"] == "deleted":
            raise unknown_tenant(tenant_id)
        return _tenant(row)

    async def list_ids(self, *, after: str = "", limit: int = 100) -> list[TenantId]:
        """Return a page of ids in order, from the directory."""
        rows = await self._database.call_platform(
            "SELECT id FROM tenant_directory WHERE id > $1 AND status <> 'deleted'"
            " ORDER BY id LIMIT $2",
            after,
            limit,
        )
        return [TenantId(row["id"]) for row in rows]

    async def update(self, tenant_id: TenantId, change: TenantChange) -> Tenant:
        """Change name, status or limits; in force for the next request on every worker.

        Raises InvalidRequest or UnknownTenant.
        """
        limits = checked_limits(change.limits) if change.limits is not None else {}
        if change.status not in (None, "active", "suspended"):
            raise InvalidRequest("status is active or suspended.", field="status")
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(
                f"UPDATE tenants SET name = coalesce($2, name), status = coalesce($3, status),"  # noqa: S608
                f" limits = limits || $4::jsonb, version = version + 1, updated_at = now()"
                f" WHERE tenant_id = $1 AND status <> 'deleted' RETURNING {_COLUMNS}",
                tenant_id,
                change.name,
                change.status,
                orjson.dumps(limits).decode(),
            )
            if row is None:
                raise unknown_tenant(tenant_id)
            await connection.execute(
                "UPDATE tenant_directory SET status = $2 WHERE id = $1", tenant_id, row["status"]
            )
            await _audited(connection, tenant_id, "tenant.changed", _changes(change))
        return _tenant(row)


async def end_tenant(connection: Connection, tenant_id: TenantId) -> None:
    """End a tenant in this transaction: its keys stop at once, its id is never given out again.

    Raises UnknownTenant.
    """
    row = await connection.fetchrow(
        "UPDATE tenants SET status = 'deleted', version = version + 1, updated_at = now()"
        " WHERE tenant_id = $1 AND status <> 'deleted' RETURNING tenant_id",
        tenant_id,
    )
    if row is None:
        raise unknown_tenant(tenant_id)
    await connection.execute(
        "UPDATE api_keys SET revoked_at = now() WHERE tenant_id = $1 AND revoked_at IS NULL",
        tenant_id,
    )
    await connection.execute(
        "UPDATE tenant_directory SET status = 'deleted' WHERE id = $1", tenant_id
    )
    await _audited(connection, tenant_id, "tenant.deleted", {})


def unknown_tenant(tenant_id: str) -> UnknownTenant:
    """Return the error that names the command which would create the tenant."""
    return UnknownTenant(
        f"There is no tenant {tenant_id!r}; create it with"
        f" `compliance-copilot tenants create {tenant_id}`.",
        kind="tenant",
        tenant_id=tenant_id,
    )


def _changes(change: TenantChange) -> dict[str, Any]:
    given = {"status": change.status, "limits": change.limits}
    renamed = {"renamed": True} if change.name is not None else {}
    return {**{n: v for n, v in given.items() if v is not None}, **renamed}


async def _audited(
    connection: Connection, tenant_id: TenantId, action: str, facts: Mapping[str, Any]
) -> None:
    """Tell both chains: the tenant's own, and the operator's."""
    entry = AuditEntry(action, f"tenant:{tenant_id}", facts)
    for chain in (tenant_id, SYSTEM_CHAIN):
        await append(connection, chain, entry)


async def _claim_id(connection: Connection, tenant_id: TenantId) -> None:
    claimed = await connection.fetchval(
        "INSERT INTO tenant_directory (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id",
        tenant_id,
    )
    if claimed is None:
        raise Conflict("This tenant id is, or once was, in use.", field="tenant_id")


def _tenant(row: Row) -> Tenant:
    config = {n: entry["value"] for n, entry in orjson.loads(row["config"]).items()}
    tenant = Tenant(**{**dict(row), "config": config, "limits": orjson.loads(row["limits"])})
    return replace(tenant, tenant_id=TenantId(tenant.tenant_id))
