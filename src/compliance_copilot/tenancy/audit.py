"""Reading the audit log: a page, a verdict, an export that proves itself."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.audit import AuditEntry, append
from compliance_copilot.storage.audit_chain import (
    ChainedEntry,
    Fault,
    Walk,
    anchors_of,
    entry_of,
    fields_of,
    walked,
)
from compliance_copilot.storage.checkpoints import Checkpoint, Checkpoints, checkpoint_of
from compliance_copilot.storage.database import Database
from compliance_copilot.storage.signing import is_signed

FORMAT = "compliance-copilot-audit/1"
_EXPORT = "audit-export/1"
_PAGE = 1000
_LIST = """
    SELECT * FROM audit_entries
    WHERE tenant_id = $1 AND ($2::bigint IS NULL OR seq < $2)
      AND ($3::text IS NULL OR action = $3) AND ($4::text IS NULL OR actor = $4)
      AND ($5::text IS NULL OR subject = $5)
      AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
    ORDER BY seq DESC LIMIT $8
"""
_FORWARD = """
    SELECT * FROM audit_entries WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted; None: any."""

    action: str | None = None
    actor: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a chain is what it was. `anchored`: up to where a signed checkpoint vouches."""

    valid: bool
    tenant_id: str
    entries: int
    head: str
    anchored: int
    public_key: str
    fault: Fault | None


class AuditLog:
    """The chains of all tenants and of the system, one at a time."""

    def __init__(self, database: Database, checkpoints: Checkpoints) -> None:
        self._database = database
        self._checkpoints = checkpoints

    async def record(self, tenant_id: TenantId, entry: AuditEntry) -> None:
        """Append what changes no row: an export, a read of somebody else's answers."""
        async with self._database.transaction(tenant_id) as connection:
            await append(connection, tenant_id, entry)

    async def list(
        self, tenant_id: TenantId, wanted: AuditFilter, *, before: int | None, limit: int
    ) -> list[ChainedEntry]:
        """Return a page of entries, newest first."""
        parts = (wanted.action, wanted.actor, wanted.subject, wanted.since, wanted.until)
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_LIST, tenant_id, before, *parts, limit)
        return [ChainedEntry(**dict(row)) for row in rows]

    async def verify(self, tenant_id: TenantId, elsewhere: Sequence[Path] = ()) -> Verdict:
        """Walk along a chain and compare it with the checkpoints of this host.

        `elsewhere`: folders of checkpoints that other hosts have written.
        """
        checkpoints = self._checkpoints.read(tenant_id, elsewhere)
        public_key = self._checkpoints.signer.public_key
        anchors, fault = anchors_of(tenant_id, checkpoints, public_key)
        walk = Walk(tenant_id, anchors)
        async for entry in self._entries(tenant_id):
            walk.step(entry)
        walk.end()
        return _verdict(walk, fault, public_key)

    async def export(
        self, tenant_id: TenantId, elsewhere: Sequence[Path] = ()
    ) -> AsyncIterator[bytes]:
        """Yield the lines of a file that `verified_export` can check without the database.

        Signed in its first line: how many entries follow, and the last one's hash.
        """
        entries = [entry async for entry in self._entries(tenant_id)]
        signer = self._checkpoints.signer
        told = {
            "format": FORMAT,
            "tenant_id": tenant_id,
            "exported_at": utc_now().isoformat(),
            "entries": len(entries),
            "head": entries[-1].hash.hex() if entries else "",
            "public_key": signer.public_key,
        }
        yield _line({"export": told, "signature": signer.sign(_EXPORT, _canonical(told))})
        for checkpoint in self._checkpoints.read(tenant_id, elsewhere):
            yield _line({"checkpoint": asdict(checkpoint)})
        for entry in entries:
            yield _line({"entry": fields_of(entry)})

    async def _entries(self, tenant_id: TenantId) -> AsyncIterator[ChainedEntry]:
        last = 0
        while True:
            async with self._database.transaction(tenant_id) as connection:
                rows = await connection.fetch(_FORWARD, tenant_id, last, _PAGE)
            for row in rows:
                yield ChainedEntry(**dict(row))
            if len(rows) < _PAGE:
                return
            last = rows[-1]["seq"]


def verified_export(lines: Iterable[bytes], public_key: str | None = None) -> Verdict:
    """Return the verdict on an exported log. Without a key, the file's own is believed.

    Position 0 is the file's first line.
    """
    told, checkpoints, entries, broken = _read_export(lines)
    key = public_key or str(told.get("export", {}).get("public_key", ""))
    header: Mapping[str, Any] = told.get("export", {})
    tenant_id = str(header.get("tenant_id", ""))
    anchors, fault = anchors_of(tenant_id, checkpoints, key)
    walk = walked(tenant_id, entries, anchors)
    if not is_signed(key, _EXPORT, _canonical(header), str(told.get("signature", ""))):
        fault = Fault(0, "the first line is not signed by the key")
    walk.fault = walk.fault or broken
    if walk.fault is None and (walk.entries, walk.head.hex()) != (
        header.get("entries"),
        header.get("head"),
    ):
        walk.fault = Fault(walk.entries + 1, "the file does not end where its first line says")
    return _verdict(walk, fault, key)


def _verdict(walk: Walk, fault: Fault | None, public_key: str) -> Verdict:
    found = walk.fault or fault
    return Verdict(
        valid=found is None,
        tenant_id=walk.tenant_id,
        entries=walk.entries,
        head=walk.head.hex(),
        anchored=min(max(walk.anchors, default=0), walk.entries),
        public_key=public_key,
        fault=found,
    )


def _read_export(
    lines: Iterable[bytes],
) -> tuple[dict[str, Any], list[Checkpoint], list[ChainedEntry], Fault | None]:
    told: dict[str, Any] = {}
    checkpoints: list[Checkpoint] = []
    entries: list[ChainedEntry] = []
    for line in lines:
        try:
            parsed = orjson.loads(line)
            if "entry" in parsed:
                entries.append(entry_of(parsed["entry"]))
            elif "checkpoint" in parsed:
                checkpoints.append(checkpoint_of(parsed["checkpoint"]))
            else:
                told = parsed
        except (KeyError, TypeError, ValueError):
            return told, checkpoints, entries, Fault(len(entries) + 1, "this line cannot be read")
    return told, checkpoints, entries, None


def _line(value: object) -> bytes:
    return orjson.dumps(value) + b"\n"


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
