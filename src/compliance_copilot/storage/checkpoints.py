"""Signed checkpoints of the audit log, outside the database: one append-only file per chain.

A checkpoint is written after the commit and before the caller is told: every change that anybody
was told of is anchored by a signature that an owner of the database can neither make nor remove.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.audit import Head
from compliance_copilot.storage.signing import Signer, is_signed

log = logging.getLogger("compliance_copilot.audit")
_PURPOSE = "audit-checkpoint/1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a chain's entry `seq` was, who says so and when."""

    tenant_id: str
    seq: int
    hash: str
    at: str
    key_id: str
    signature: str = ""

    @property
    def message(self) -> bytes:
        """The signed bytes."""
        return orjson.dumps({**asdict(self), "signature": ""}, option=orjson.OPT_SORT_KEYS)

    def is_signed_by(self, public_key: str) -> bool:
        """Tell whether the signature is this key's."""
        return is_signed(public_key, _PURPOSE, self.message, self.signature)


class Checkpoints:
    """Writes and reads the checkpoints of this host."""

    def __init__(self, folder: Path, signer: Signer) -> None:
        self._folder = folder
        self.signer = signer

    def sign(self, head: Head) -> Checkpoint:
        """Return the signed checkpoint of a chain's head."""
        signer = self.signer
        now = utc_now().isoformat()
        bare = Checkpoint(head.tenant_id, head.seq, head.hash.hex(), now, signer.key_id)
        return Checkpoint(**{**asdict(bare), "signature": signer.sign(_PURPOSE, bare.message)})

    def write(self, heads: Sequence[Head]) -> None:
        """Append a checkpoint for each head. A disk that refuses is told to the log: the change
        is committed, and the chain's next checkpoint anchors it too.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for head in heads:
                self._append(head.tenant_id, orjson.dumps(asdict(self.sign(head))) + b"\n")
        except OSError as error:
            log.error("audit checkpoint not written: %s", error)

    def read(self, tenant_id: TenantId, elsewhere: Sequence[Path] = ()) -> list[Checkpoint]:
        """Return a chain's checkpoints: of this host, and of the folders of others."""
        folders = (self._folder, *elsewhere)
        return [found for folder in folders for found in read_checkpoints(folder, tenant_id)]

    def _append(self, tenant_id: TenantId, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(_file(self._folder, tenant_id), flags, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


def read_checkpoints(folder: Path, tenant_id: TenantId) -> list[Checkpoint]:
    """Return a chain's checkpoints in a host's folder, in the order they were written.

    A line that is no checkpoint becomes one that no key has signed: it is a fault, not a gap.
    """
    file = _file(folder, tenant_id)
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [checkpoint_of(_parsed(line)) for line in lines]


def _file(folder: Path, tenant_id: TenantId) -> Path:
    return folder / f"{tenant_id}.jsonl"


def checkpoint_of(fields: Any) -> Checkpoint:
    """Return a checkpoint from its JSON form; an unsigned one where that is none."""
    try:
        return Checkpoint(**fields)
    except TypeError:
        return Checkpoint("", 0, "", "", "")


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
