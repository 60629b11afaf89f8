"""Erasures: begun in the transaction that takes the content, ended by a probe and a signature.

A row says what is being erased until nothing of it is found any more; whoever finds an unfinished
one goes on with it. Receipts are kept, content-free but for the caller's own name of a document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import orjson

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import Conflict, NotFound
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.storage.signing import Signer
from compliance_copilot.tenancy.tenants import end_tenant

DOCUMENT, TENANT = "document", "tenant"
PURPOSE = "erasure"
_BEGIN = """
    INSERT INTO erasures (tenant_id, id, what, subject, traces, requested_by, counts)
    VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)
"""
_READ = "SELECT * FROM erasures WHERE tenant_id = $1 AND id = $2"
_COUNT = """
    UPDATE erasures SET counts = $3::jsonb, probe = $4::jsonb
    WHERE tenant_id = $1 AND id = $2 AND state <> 'finished'
"""
_FINISH = """
    UPDATE erasures SET state = 'finished', finished_at = $3, key_id = $4, signature = $5,
           traces = '{}'
    WHERE tenant_id = $1 AND id = $2 AND state <> 'finished' RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far an erasure is. `probe` counts the rows found afterwards, by table: none at the end.

    The signature is Ed25519 over all fields above it, as JSON with sorted names.
    """

    erasure_id: UUID
    tenant_id: TenantId
    what: str
    subject: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    state: str
    counts: Mapping[str, int]
    probe: Mapping[str, int]
    key_id: str | None = None
    signature: str | None = None

    @property
    def message(self) -> bytes:
        """What is signed."""
        signed = {n: v for n, v in asdict(self).items() if n not in {"key_id", "signature"}}
        return orjson.dumps(signed, option=orjson.OPT_SORT_KEYS, default=str)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An unfinished erasure, or a document whose time is over; with neither, a corpus is due."""

    tenant_id: TenantId
    erasure_id: UUID | None = None
    document_id: str | None = None


class ErasureStore:
    """The erasures of all tenants, one tenant at a time."""

    def __init__(self, database: Database, signer: Signer) -> None:
        self._database = database
        self._signer = signer

    async def begin_document(
        self, connection: Connection, erasure: Receipt, chunk_ids: Sequence[UUID]
    ) -> None:
        """Take what was made of a document that this transaction removes, and note the rest.

        Raises Conflict under legal hold.
        """
        await _refuse_held(connection, erasure.tenant_id)
        taken = await connection.fetchval(
            "SELECT erase_document_rows($1, $2)", erasure.tenant_id, erasure.subject
        )
        counts = {"chunks": len(chunk_ids), **erasure.counts, **orjson.loads(taken)}
        await _begin(connection, erasure, counts, [str(chunk_id) for chunk_id in chunk_ids])
        subject = f"document:{erasure.subject}"
        entry = AuditEntry("document.deleted", subject, {"erasure": str(erasure.erasure_id)})
        await append(connection, erasure.tenant_id, entry)

    async def begin_tenant(self, erasure: Receipt) -> None:
        """End a tenant and note that all it has is to go. Raises UnknownTenant, Conflict."""
        async with self._database.transaction(erasure.tenant_id) as connection:
            await _refuse_held(connection, erasure.tenant_id)
            await _begin(connection, erasure, {}, [])
            await end_tenant(connection, erasure.tenant_id)

    async def require(self, tenant_id: TenantId, erasure_id: UUID) -> Receipt:
        """Return a receipt. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            return await _read(connection, tenant_id, erasure_id)

    async def erase_rows(self, tenant_id: TenantId, erasure_id: UUID) -> None:
        """Take what is there (again): a request under way may have written since."""
        async with self._database.transaction(tenant_id) as connection:
            erasure = await _read(connection, tenant_id, erasure_id)
            if erasure.state == "finished":
                return
            if erasure.what == TENANT:
                taken = await connection.fetchval("SELECT erase_tenant_rows($1)", tenant_id)
            else:
                taken = await connection.fetchval(
                    "SELECT erase_document_rows($1, $2)", tenant_id, erasure.subject
                )
            counts = dict(erasure.counts)
            for table, rows in orjson.loads(taken).items():
                counts[table] = counts.get(table, 0) + rows
            await _note(connection, erasure, counts, erasure.probe)

    async def conclude(self, tenant_id: TenantId, erasure_id: UUID) -> Receipt:
        """Look for what is left; sign when it is nothing and nobody is under way any more."""
        async with self._database.transaction(tenant_id) as connection:
            erasure = await _read(connection, tenant_id, erasure_id)
            if erasure.state == "finished":
                return erasure
            found = await connection.fetchval("SELECT rows_left($1, $2)", tenant_id, erasure_id)
            left = orjson.loads(found)
            waiting = await connection.fetchval(
                "SELECT requests_before($1, $2, $3)",
                tenant_id,
                erasure.requested_at,
                erasure.what,
            )
            if waiting:
                left["requests_under_way"] = waiting
            await _note(connection, erasure, erasure.counts, left)
            if not left:
                await self._sign(connection, erasure)
            return await _read(connection, tenant_id, erasure_id)

    async def waiting(self) -> list[Waiting]:
        """Return what is to be done for which tenant, asked for by nobody."""
        rows = await self._database.call_platform("SELECT * FROM work_waiting()")
        return [
            Waiting(TenantId(row["tenant_id"]), row["erasure_id"], row["document_id"])
            for row in rows
        ]

    async def _sign(self, connection: Connection, erasure: Receipt) -> None:
        now = utc_now()
        finished = await connection.fetchval(
            _FINISH, erasure.tenant_id, erasure.erasure_id, now, self._signer.key_id, ""
        )
        if finished is None:
            return  # another worker was quicker
        ended = await _read(connection, erasure.tenant_id, erasure.erasure_id)
        await connection.execute(
            "UPDATE erasures SET signature = $3 WHERE tenant_id = $1 AND id = $2",
            erasure.tenant_id,
            erasure.erasure_id,
            self._signer.sign(PURPOSE, ended.message),
        )
        entry = AuditEntry("erasure.finished", f"erasure:{erasure.erasure_id}")
        await append(connection, erasure.tenant_id, entry)


async def _refuse_held(connection: Connection, tenant_id: TenantId) -> None:
    # Whoever sets a hold changes this row: from here on it comes after the erasure.
    await connection.execute("SELECT FROM tenants WHERE tenant_id = $1 FOR SHARE", tenant_id)
    held = await connection.fetchval("SELECT legal_hold($1)", tenant_id)
    if held is not None:
        hold = orjson.loads(held)
        raise Conflict(
            "Under legal hold nothing is erased.",
            reason=hold["value"],
            set_by=hold["set_by"],
            set_at=hold["set_at"],
        )


async def _begin(
    connection: Connection, erasure: Receipt, counts: Mapping[str, int], traces: Sequence[str]
) -> None:
    await connection.execute(
        _BEGIN,
        erasure.tenant_id,
        erasure.erasure_id,
        erasure.what,
        erasure.subject,
        list(traces),
        erasure.requested_by,
        orjson.dumps(counts).decode(),
    )


async def _note(
    connection: Connection, erasure: Receipt, counts: Mapping[str, int], probe: Mapping[str, int]
) -> None:
    await connection.execute(
        _COUNT,
        erasure.tenant_id,
        erasure.erasure_id,
        orjson.dumps(counts).decode(),
        orjson.dumps(probe).decode(),
    )


async def _read(connection: Connection, tenant_id: TenantId, erasure_id: UUID) -> Receipt:
    row: Row = await connection.fetchrow(_READ, tenant_id, erasure_id)
    if row is None:
        raise NotFound("There is no such erasure.", kind="erasure")
    return Receipt(
        UUID(str(row["id"])),
        tenant_id,
        row["what"],
        row["subject"],
        row["requested_by"],
        row["requested_at"],
        row["finished_at"],
        row["state"],
        orjson.loads(row["counts"]),
        orjson.loads(row["probe"]),
        row["key_id"],
        row["signature"],
    )
