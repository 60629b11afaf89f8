"""Appending to the audit log, inside the transaction of the change that it tells of.

One chain per tenant, and one of the system (`SYSTEM_CHAIN`). What is written are ids, names of
fields and numbers, never content: the log outlives what it speaks of.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import orjson

from compliance_copilot.core.acting import current_actor
from compliance_copilot.core.vocabulary import TenantId

SYSTEM_CHAIN = TenantId("@system")
"""No tenant can have this id, so its rows are behind a wall of their own."""

_APPEND = "SELECT seq, hash FROM append_audit($1, $2, $3, $4, $5, $6, $7)"
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What happened (`key.created`), to what, and the facts about it."""

    action: str
    subject: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry of a chain as of a commit."""

    tenant_id: TenantId
    seq: int
    hash: bytes


_appended: ContextVar[list[Head] | None] = ContextVar("appended", default=None)


async def append(connection: Any, tenant_id: TenantId, entry: AuditEntry) -> None:
    """Append an entry to a tenant's chain; it stands when the transaction commits.

    Appends of one chain wait for one another until then. Who writes to two chains writes to the
    tenant's first and to the system's second, so that no two wait for each other.
    """
    actor = current_actor()
    row = await connection.fetchrow(
        _APPEND,
        tenant_id,
        actor.id,
        actor.name[:_LONGEST_NAME],
        actor.request_id,
        entry.action,
        entry.subject,
        orjson.dumps(entry.details, default=str, option=orjson.OPT_SORT_KEYS).decode(),
    )
    noted = _appended.get()
    if noted is not None:
        noted.append(Head(tenant_id, row["seq"], row["hash"]))


@contextmanager
def noting() -> Iterator[list[Head]]:
    """Give the list that gathers what a transaction appends: the database's own business."""
    noted: list[Head] = []
    token = _appended.set(noted)
    try:
        yield noted
    finally:
        _appended.reset(token)
