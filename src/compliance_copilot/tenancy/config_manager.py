"""Writing the cascade's layers, and reading them with where each value comes from."""

import asyncio
from collections.abc import Coroutine, Generator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from typing import Any

import orjson

from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    ResourceLimits,
    TenantId,
)
from compliance_copilot.storage.audit import SYSTEM_CHAIN, AuditEntry, append
from compliance_copilot.storage.database import Database
from compliance_copilot.tenancy.cascade import (
    SYSTEM,
    TENANT,
    Layer,
    ValueOrigin,
    checked_limits,
    checked_patch,
    explain,
    system_layer,
)
from compliance_copilot.tenancy.tenants import stamped, unknown_tenant

_UPDATE_TENANT = """
    UPDATE tenants SET config = (config - $3::text[]) || $2::jsonb, limits = limits || $4::jsonb,
                       version = version + 1, updated_at = now()
    WHERE tenant_id = $1 AND status <> 'deleted' RETURNING version
"""
_UPDATE_SYSTEM = """
    UPDATE system_state SET config = (config - $2::text[]) || $1::jsonb, version = version + 1
    RETURNING version
"""
_SHORTEN = "SELECT shorten_retention($1, $2)"
_READ_SYSTEM = "SELECT config, version FROM system_state"
_READ = """
    SELECT s.config AS system_config, t.config AS tenant_config, s.version + t.version AS version
    FROM system_state s, tenants t WHERE t.tenant_id = $1 AND t.status <> 'deleted'
"""


class PendingWrite:
    """A write that has been started: await it, or let the next operation wait for it."""

    def __init__(self, work: Coroutine[Any, Any, int], pending: set["PendingWrite"]) -> None:
        self._task = asyncio.ensure_future(work)
        self._pending = pending
        pending.add(self)

    def __await__(self) -> Generator[Any, None, int]:
        """Give the new version, or raise what the write met.

        It is the waiter's from here on, and nobody else waits for it or meets its error. A waiter
        that is cancelled takes nothing away: the write goes on and is pending again.
        """
        self._pending.discard(self)
        try:
            return (yield from asyncio.shield(self._task).__await__())
        except asyncio.CancelledError:
            self._pending.add(self)
            raise


class ConfigManager:
    """System defaults and tenant configuration; each value knows who set it and when."""

    def __init__(self, database: Database, base: EffectiveConfig) -> None:
        self._database = database
        self._base = base
        self._pending: set[PendingWrite] = set()

    def set_system_defaults(self, *, set_by: str = "library", **values: Any) -> PendingWrite:
        """Validate at once and start storing system defaults for all tenants; None takes a
        stored default away, so that the settings hold again.

        Raises InvalidRequest. Awaiting the result gives the new version.
        """
        patch = checked_patch(values)
        return PendingWrite(self._write_system(patch, set_by), self._pending)

    def update_tenant_config(
        self, tenant_id: str, *, set_by: str = "library", **values: Any
    ) -> PendingWrite:
        """Validate at once and start storing values for one tenant; None takes the tenant's own
        value away, so that the system's holds again.

        `resource_limits=ResourceLimits(...)` sets its limits. Raises InvalidRequest; awaiting
        raises UnknownTenant.
        """
        limits = values.pop("resource_limits", None)
        own_limits = checked_limits(_as_mapping(limits)) if limits is not None else {}
        write = _Write(checked_patch(values), own_limits, set_by)
        return PendingWrite(self._write_tenant(TenantId(tenant_id), write), self._pending)

    async def finish_writes(self) -> None:
        """Wait for started writes and raise the first error among them."""
        while self._pending:
            await next(iter(self._pending))

    async def explain(self, tenant_id: TenantId) -> tuple[int, dict[str, ValueOrigin]]:
        """Return the version and, per field, value, layer, setter and time.

        Raises UnknownTenant.
        """
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(_READ, tenant_id)
        if row is None:
            raise unknown_tenant(tenant_id)
        system = system_layer(self._base, layer_of(row["system_config"], SYSTEM))
        return row["version"], explain(system, layer_of(row["tenant_config"], TENANT))

    async def explain_system(self) -> tuple[int, dict[str, ValueOrigin]]:
        """Return the version and, per field, the system default, its setter and time."""
        row = (await self._database.call_platform(_READ_SYSTEM))[0]
        system = system_layer(self._base, layer_of(row["config"], SYSTEM))
        return row["version"], explain(system, {})

    async def _write_system(self, patch: Mapping[str, Any], set_by: str) -> int:
        stored, removed = _stored(patch, set_by)
        async with self._database.platform_transaction() as connection:
            version = await connection.fetchval(_UPDATE_SYSTEM, stored, removed)
            await append(connection, SYSTEM_CHAIN, AuditEntry("system.configured", "", dict(patch)))
        return int(version)

    async def _write_tenant(self, tenant_id: TenantId, write: "_Write") -> int:
        stored, removed = _stored(write.patch, write.set_by)
        limits = orjson.dumps(write.limits).decode()
        async with self._database.transaction(tenant_id) as connection:
            version = await connection.fetchval(_UPDATE_TENANT, tenant_id, stored, removed, limits)
            if version is None:
                raise unknown_tenant(tenant_id)
            days = write.patch.get("answer_retention_days")
            if days is not None:
                await connection.execute(_SHORTEN, tenant_id, days)
            for action, facts in (
                ("config.changed", write.patch),
                ("limits.changed", write.limits),
            ):
                if facts:
                    await append(connection, tenant_id, AuditEntry(action, "", dict(facts)))
        return int(version)


@dataclass(frozen=True, slots=True)
class _Write:
    """What is written for a tenant, and by whom."""

    patch: Mapping[str, Any]
    limits: Mapping[str, Any]
    set_by: str


def _stored(patch: Mapping[str, Any], set_by: str) -> tuple[str, list[str]]:
    """Return the values to lay over a stored layer, as JSON, and the fields to take out of it."""
    values = {name: value for name, value in patch.items() if value is not None}
    return orjson.dumps(stamped(values, set_by)).decode(), sorted(patch.keys() - values.keys())


def layer_of(stored: str, name: str) -> Layer:
    """Return a layer from its stored JSON: field -> {value, set_by, set_at}."""
    return {
        field: ValueOrigin(
            entry["value"], name, entry["set_by"], datetime.fromisoformat(entry["set_at"])
        )
        for field, entry in orjson.loads(stored).items()
    }


def _as_mapping(limits: ResourceLimits | Mapping[str, Any]) -> Mapping[str, Any]:
    return asdict(limits) if is_dataclass(limits) else dict(limits)
