"""Answers that were given: read again by their request, and judged by their readers.

Settlement writes them, in its own round trip. Must not enter: how an answer comes about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.core.errors import Gone, NotFound
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Database

_KEPT = "SELECT * FROM kept_answer($1, $2)"
_JUDGE = "SELECT note_feedback($1, $2, $3, $4, $5) AS state"


class Verdict(StrEnum):
    """What a reader thinks of an answer."""

    HELPFUL = "helpful"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Feedback:
    """A verdict and, if wanted, why."""

    verdict: Verdict
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The body of an answer as it was given, and the key that asked (None: no key did)."""

    body: Mapping[str, Any]
    asked_by: str | None


class AnswerStore:
    """Every tenant's kept answers, one tenant at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def require(self, tenant_id: TenantId, request_id: UUID) -> KeptAnswer:
        """Return an answer as it was given.

        Raises NotFound, or Gone when retention or erasure took it.
        """
        row = (await self._database.call(tenant_id, _KEPT, request_id))[0]
        _refuse(row["state"])
        return KeptAnswer(orjson.loads(row["reply"]), row["asked_by"])

    async def judge(
        self, tenant_id: TenantId, request_id: UUID, key_id: str, feedback: Feedback
    ) -> None:
        """Note what the holder of a key thinks; the key's last word holds.

        Raises NotFound or Gone.
        """
        rows = await self._database.call(
            tenant_id, _JUDGE, request_id, key_id, feedback.verdict.value, feedback.comment
        )
        _refuse(rows[0]["state"])


def _refuse(state: str) -> None:
    if state == "unknown":
        raise NotFound("There is no such answer.", kind="answer")
    if state == "gone":
        raise Gone("This answer was kept once; its retention is over.", kind="answer")
