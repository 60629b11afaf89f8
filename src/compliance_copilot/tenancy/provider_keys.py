"""A tenant's own keys with vendors: sealed at rest, told to nobody, in force at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from compliance_copilot.core.errors import Conflict, NotFound
from compliance_copilot.core.vocabulary import SealedKey, TenantId
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Database
from compliance_copilot.storage.sealing import Sealer, UnreadableSecretError
from compliance_copilot.tenancy.tenants import unknown_tenant

_FEWEST_CHARACTERS_TO_SHOW_FOUR = 16
# The configuration's version moves, so every worker reads the key before its next admission.
_TOUCH = """
    UPDATE tenants SET version = version + 1, updated_at = now()
    WHERE tenant_id = $1 AND status <> 'deleted' RETURNING tenant_id
"""
_PUT = """
    INSERT INTO provider_keys AS k (tenant_id, provider, sealed, last4, set_by)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (tenant_id, provider) DO UPDATE SET
        sealed = excluded.sealed, last4 = excluded.last4, set_by = excluded.set_by, set_at = now()
    RETURNING provider, last4, set_by, set_at
"""
_GET = """
    SELECT provider, last4, set_by, set_at FROM provider_keys
    WHERE tenant_id = $1 AND provider = $2
"""
_DELETE = "DELETE FROM provider_keys WHERE tenant_id = $1 AND provider = $2 RETURNING provider"
_SEALED = "SELECT provider, sealed FROM provider_keys WHERE tenant_id = $1 FOR UPDATE"
_RESEAL = "UPDATE provider_keys SET sealed = $3 WHERE tenant_id = $1 AND provider = $2"


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """What is told about a key."""

    provider: str
    last4: str
    set_by: str
    set_at: datetime


class ProviderKeys:
    """The tenants' keys, sealed and opened by one sealer."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def put(
        self, tenant_id: TenantId, provider: str, secret: str, *, set_by: str
    ) -> ProviderKey:
        """Keep a key, in place of one before. Raises UnknownTenant."""
        sealed = self._sealer.seal(tenant_id, provider, secret)
        last4 = secret[-4:] if len(secret) >= _FEWEST_CHARACTERS_TO_SHOW_FOUR else ""
        async with self._database.transaction(tenant_id) as connection:
            await _touch(connection, tenant_id)
            row = await connection.fetchrow(_PUT, tenant_id, provider, sealed, last4, set_by)
            await _tell(connection, tenant_id, "provider_key.set", provider)
        return ProviderKey(**dict(row))

    async def require(self, tenant_id: TenantId, provider: str) -> ProviderKey:
        """Return what is told about a key. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(_GET, tenant_id, provider)
        if row is None:
            raise _unknown()
        return ProviderKey(**dict(row))

    async def delete(self, tenant_id: TenantId, provider: str) -> None:
        """Forget a key; the service's own is used again, if there is one. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            await _touch(connection, tenant_id)
            if await connection.fetchval(_DELETE, tenant_id, provider) is None:
                raise _unknown()
            await _tell(connection, tenant_id, "provider_key.deleted", provider)

    async def reseal(self, tenant_id: TenantId) -> int:
        """Bring a tenant's keys under the first of SECRETS_KEY; return how many were not.

        Raises Conflict when a key cannot be opened.
        """
        moved = 0
        async with self._database.transaction(tenant_id) as connection:
            for row in await connection.fetch(_SEALED, tenant_id):
                provider, sealed = row["provider"], row["sealed"]
                if self._sealer.is_current(sealed):
                    continue
                secret = self.open(SealedKey(tenant_id, provider, sealed))
                if secret is None:
                    raise Conflict(f"The {provider} key of {tenant_id} opens under no SECRETS_KEY.")
                again = self._sealer.seal(tenant_id, provider, secret)
                await connection.execute(_RESEAL, tenant_id, provider, again)
                moved += 1
            if moved:
                await _touch(connection, tenant_id)
        return moved

    def open(self, key: SealedKey) -> str | None:
        """Return a key for a call, None when it cannot be opened here."""
        try:
            return self._sealer.open(key.tenant_id, key.provider, key.sealed)
        except UnreadableSecretError:
            return None


async def _tell(connection: Any, tenant_id: TenantId, action: str, provider: str) -> None:
    await append(connection, tenant_id, AuditEntry(action, f"provider_key:{provider}"))


async def _touch(connection: Any, tenant_id: TenantId) -> None:
    if await connection.fetchval(_TOUCH, tenant_id) is None:
        raise unknown_tenant(tenant_id)


def _unknown() -> NotFound:
    return NotFound("No key of this provider is set.", kind="provider_key")
