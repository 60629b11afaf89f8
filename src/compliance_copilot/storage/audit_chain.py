"""Whether a chain of the audit log is what it was: pure, for the database and for exported files.

Mirrors `audit_hash` of `4_audit.sql`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from compliance_copilot.storage.checkpoints import Checkpoint

_HASHED = ("actor", "actor_name", "request_id", "action", "subject", "details")


@dataclass(frozen=True, slots=True)
class ChainedEntry:
    """A row of the audit log; `details` is JSON as text, exactly as hashed."""

    tenant_id: str
    seq: int
    at: datetime
    actor: str
    actor_name: str
    request_id: str
    action: str
    subject: str
    details: str
    previous_hash: bytes
    hash: bytes

    def computed_hash(self) -> bytes:
        """Return the hash that the row should have."""
        at = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        texts = [self.tenant_id, str(self.seq), at, *(getattr(self, n) for n in _HASHED)]
        return sha256(self.previous_hash + b"".join(map(_netstring, texts))).digest()


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a chain stops being what it was, and how that shows."""

    position: int
    reason: str


@dataclass(slots=True)
class Walk:
    """Goes along a chain once, in order, and stops at the first fault."""

    tenant_id: str
    anchors: Mapping[int, frozenset[str]]
    entries: int = 0
    fault: Fault | None = None
    head: bytes = field(default=b"")

    def step(self, entry: ChainedEntry) -> None:
        """Look at the next entry."""
        reason = self._fault_of(entry)
        if reason is not None:
            self.fault = self.fault or Fault(min(entry.seq, self.entries + 1), reason)
        if self.fault is None:
            self.entries, self.head = entry.seq, entry.hash

    def _fault_of(self, entry: ChainedEntry) -> str | None:
        expected = self.entries + 1
        if entry.seq != expected:
            return f"entry {expected} is missing"
        if entry.tenant_id != self.tenant_id:
            return "it belongs to another chain"
        if entry.previous_hash != self.head:
            return "it does not follow its predecessor"
        if entry.hash != entry.computed_hash():
            return "its content is not what was hashed"
        if self.anchors.get(entry.seq, frozenset()) - {entry.hash.hex()}:
            return "a signed checkpoint says otherwise"
        return None

    def end(self) -> None:
        """Look whether the chain ends before a checkpoint does."""
        last = max(self.anchors, default=0)
        if self.fault is None and last > self.entries:
            reason = f"entry {self.entries + 1} is missing: there is a signed checkpoint of {last}"
            self.fault = Fault(self.entries + 1, reason)


def anchors_of(
    tenant_id: str, checkpoints: Sequence[Checkpoint], public_key: str
) -> tuple[dict[int, frozenset[str]], Fault | None]:
    """Return the hashes that checkpoints vouch for, by position; a bad one is a fault."""
    anchors: dict[int, frozenset[str]] = {}
    fault: Fault | None = None
    for checkpoint in checkpoints:
        if checkpoint.tenant_id != tenant_id or not checkpoint.is_signed_by(public_key):
            fault = fault or Fault(checkpoint.seq, "a checkpoint is not signed by the key")
            continue
        known = anchors.get(checkpoint.seq, frozenset())
        anchors[checkpoint.seq] = known | {checkpoint.hash}
    return anchors, fault


def walked(
    tenant_id: str, entries: Iterable[ChainedEntry], anchors: Mapping[int, frozenset[str]]
) -> Walk:
    """Return the walk along a whole chain."""
    walk = Walk(tenant_id, anchors)
    for entry in entries:
        walk.step(entry)
    walk.end()
    return walk


def entry_of(fields: Mapping[str, Any]) -> ChainedEntry:
    """Return an entry from its JSON form. Raises KeyError, TypeError or ValueError."""
    hashes = {name: bytes.fromhex(fields[name]) for name in ("previous_hash", "hash")}
    return ChainedEntry(**{**fields, **hashes, "at": datetime.fromisoformat(fields["at"])})


def fields_of(entry: ChainedEntry) -> dict[str, Any]:
    """Return the JSON form of an entry."""
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    hashes = {"previous_hash": entry.previous_hash.hex(), "hash": entry.hash.hex()}
    names = ("tenant_id", "seq", *_HASHED)
    return {**{name: getattr(entry, name) for name in names}, "at": at, **hashes}


def _netstring(text: str) -> bytes:
    raw = text.encode()
    return b"%d:%s," % (len(raw), raw)
