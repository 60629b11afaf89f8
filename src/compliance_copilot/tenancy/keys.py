"""API keys: `cc_live_` + 256 random bits in base62 + a checksum; stored as SHA-256.

A typo is found by the checksum, without asking the database. To search a repository for leaked
keys: `cc_live_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}`.
"""

import hmac
import secrets
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from compliance_copilot.core.clock import Deadline, new_id, utc_now
from compliance_copilot.core.errors import InvalidRequest, NotFound
from compliance_copilot.core.vocabulary import Principal, Scope, TenantId
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row

PREFIX = "cc_live_"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_LENGTH = 43  # 62**43 > 2**256
_CHECK_LENGTH = 6  # 62**6 > 2**32
_CACHE_ENTRIES = 10_000
_LOOK_UP_SECONDS = 3.0
FIRST_KEY_SCOPES = (Scope.QUERY, Scope.INGEST, Scope.USAGE_READ, Scope.TENANT_ADMIN)
ROTATION_OVERLAP = timedelta(hours=24)
_INSERT = """
    INSERT INTO api_keys (tenant_id, id, key_hash, name, scopes, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6)
"""
_SELECT = """
    SELECT id, name, scopes, created_at, expires_at, revoked_at, last_used_at FROM api_keys
    WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3
"""
_LIFE = """
    SELECT expires_at - created_at FROM api_keys WHERE tenant_id = $1 AND id = $2 FOR UPDATE
"""


def make_secret() -> str:
    """Return a new key."""
    body = _base62(secrets.randbits(256), _RANDOM_LENGTH)
    return f"{PREFIX}{body}_{_checksum(body)}"


def is_well_formed(secret: str) -> bool:
    """Tell whether prefix, length, letters and checksum fit: no database for a typo."""
    body, _, check = secret.removeprefix(PREFIX).partition("_")
    return (
        secret.startswith(PREFIX)
        and len(body) == _RANDOM_LENGTH
        and body.isascii()
        and body.isalnum()
        and hmac.compare_digest(check.encode(), _checksum(body).encode())
    )


def hash_of(secret: str) -> bytes:
    """Return what is stored of a key: 32 bytes."""
    return sha256(secret.encode()).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_ALPHABET[rest])
    return "".join(reversed(digits))


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the one moment when its secret is known."""

    key_id: UUID
    secret: str = field(repr=False)
    name: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as it is listed: everything but the secret."""

    key_id: UUID
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


async def insert_key(
    connection: Connection,
    tenant_id: TenantId,
    *,
    name: str,
    scopes: tuple[Scope, ...] = FIRST_KEY_SCOPES,
    expires_at: datetime | None = None,
) -> IssuedKey:
    """Make a key inside a transaction of the tenant. Raises InvalidRequest for a bad scope."""
    if Scope.PLATFORM_ADMIN in scopes or not scopes:
        raise InvalidRequest("A tenant's key has one or more of its own scopes.", field="scopes")
    issued = IssuedKey(new_id(), make_secret(), name, scopes, expires_at)
    await connection.execute(
        _INSERT, tenant_id, issued.key_id, hash_of(issued.secret), name, list(scopes), expires_at
    )
    facts = {"name": name, "scopes": list(scopes), "expires_at": expires_at}
    await append(connection, tenant_id, AuditEntry("key.created", f"key:{issued.key_id}", facts))
    return issued


class KeyRing:
    """The keys of all tenants: who presents one, and the life of each."""

    def __init__(self, database: Database, platform_secret: str | None = None) -> None:
        self._database = database
        self._platform_hash = hash_of(platform_secret) if platform_secret else None
        self._known: dict[bytes, Principal] = {}

    async def identify(self, secret: str, *, fresh: bool) -> Principal | None:
        """Return who presents this key; None when it is unknown, revoked or expired.

        With `fresh=False` a principal from memory may be returned: only for operations whose
        admission looks at the key again.
        """
        presented = hash_of(secret)
        if self._platform_hash and hmac.compare_digest(presented, self._platform_hash):
            return _OPERATOR
        known = None if fresh else self._known.get(presented)
        if known is not None or not is_well_formed(secret):
            return known
        return await self._look_up(presented)

    def knows(self, secret: str) -> bool:
        """Tell from memory whether this process has met the key as a valid one, or it is none
        that the database would be asked about.
        """
        presented = hash_of(secret)
        if self._platform_hash and hmac.compare_digest(presented, self._platform_hash):
            return True
        return presented in self._known or not is_well_formed(secret)

    def forget(self, principal: Principal) -> None:
        """Drop a principal from memory: admission found the key revoked."""
        self._known.pop(principal.key_hash or b"", None)

    async def _look_up(self, presented: bytes) -> Principal | None:
        deadline = Deadline.after(_LOOK_UP_SECONDS)
        rows = await self._database.call_platform(
            "SELECT * FROM authenticate($1)", presented, deadline=deadline
        )
        if not rows:
            self._known.pop(presented, None)
            return await self._operator_of(presented, deadline)
        row = rows[0]
        principal = Principal(
            tenant_id=TenantId(row["tenant_id"]),
            key_id=str(row["key_id"]),
            name=row["name"],
            scopes=frozenset(Scope(s) for s in row["scopes"]),
            key_hash=presented,
            expires_at=row["expires_at"],
            suspended=row["tenant_status"] != "active",
        )
        if len(self._known) >= _CACHE_ENTRIES:
            self._known.clear()
        self._known[presented] = principal
        return principal

    async def _operator_of(self, presented: bytes, deadline: Deadline) -> Principal | None:
        if self._platform_hash is not None:
            return None  # a fixed platform key replaces the one made at first start
        rows = await self._database.call_platform(
            "SELECT 1 FROM platform_keys WHERE key_hash = $1", presented, deadline=deadline
        )
        return _OPERATOR if rows else None

    async def create(
        self,
        tenant_id: TenantId,
        *,
        name: str,
        scopes: tuple[Scope, ...],
        expires_in_days: float | None = None,
    ) -> IssuedKey:
        """Make a key for a tenant. Raises InvalidRequest for a bad scope or life."""
        if expires_in_days is not None and expires_in_days <= 0:
            raise InvalidRequest("expires_in_days is more than 0.", field="expires_in_days")
        life = None if expires_in_days is None else timedelta(days=expires_in_days)
        expires_at = None if life is None else utc_now() + life
        async with self._database.transaction(tenant_id) as connection:
            return await insert_key(
                connection, tenant_id, name=name, scopes=scopes, expires_at=expires_at
            )

    async def list(
        self, tenant_id: TenantId, *, after: UUID | None = None, limit: int = 100
    ) -> list[KeyRecord]:
        """Return a page of the tenant's keys, oldest first, without secrets."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_SELECT, tenant_id, after, limit)
        return [_record(row) for row in rows]

    async def revoke(self, tenant_id: TenantId, key_id: UUID) -> None:
        """End a key now, on every worker. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            await _end(connection, tenant_id, key_id, utc_now(), revoked=True)
            await append(connection, tenant_id, AuditEntry("key.revoked", f"key:{key_id}"))

    async def rotate(
        self, tenant_id: TenantId, key_id: UUID, *, overlap: timedelta = ROTATION_OVERLAP
    ) -> IssuedKey:
        """Make a successor with the same name, scopes and length of life; the old key ends after
        `overlap`. Raises NotFound.
        """
        async with self._database.transaction(tenant_id) as connection:
            life = await connection.fetchval(_LIFE, tenant_id, key_id)
            old = await _end(connection, tenant_id, key_id, utc_now() + overlap, revoked=False)
            ends = {"old_key_ends_after_seconds": overlap.total_seconds()}
            entry = AuditEntry("key.rotated", f"key:{key_id}", ends)
            await append(connection, tenant_id, entry)
            return await insert_key(
                connection,
                tenant_id,
                name=old["name"],
                scopes=tuple(Scope(s) for s in old["scopes"]),
                expires_at=None if life is None else utc_now() + life,
            )

    async def ensure_platform_key(self) -> str | None:
        """Make the platform key of a deployment that has none; return it this once."""
        if self._platform_hash is not None:
            return None
        secret = make_secret()
        async with self._database.platform_transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('cc.platform_key'))")
            if await connection.fetchval("SELECT 1 FROM platform_keys LIMIT 1"):
                return None
            await connection.execute(
                "INSERT INTO platform_keys (key_hash) VALUES ($1)", hash_of(secret)
            )
        return secret


_OPERATOR = Principal(
    tenant_id=None,
    key_id="platform",
    name="platform",
    scopes=frozenset({Scope.PLATFORM_ADMIN, Scope.USAGE_READ, Scope.TENANT_ADMIN}),
)


async def _end(
    connection: Connection, tenant_id: TenantId, key_id: UUID, at: datetime, *, revoked: bool
) -> Row:
    row = await connection.fetchrow(
        "UPDATE api_keys SET revoked_at = CASE WHEN $4 THEN $3 ELSE revoked_at END,"
        " expires_at = CASE WHEN $4 THEN expires_at ELSE least(expires_at, $3) END"
        " WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > now()) RETURNING name, scopes",
        tenant_id,
        key_id,
        at,
        revoked,
    )
    if row is None:
        raise NotFound("There is no such key.", kind="key")
    return row


def _record(row: Row) -> KeyRecord:
    return KeyRecord(
        key_id=row["id"],
        name=row["name"],
        scopes=tuple(Scope(s) for s in row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
