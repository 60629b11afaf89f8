"""Conversations of every tenant: their last questions, for the next one to lean on.

Must not enter: how a follow-up is made to stand alone (`conversation.py`).
"""

from dataclasses import dataclass

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import Permit, TenantId
from compliance_copilot.rag.conversation import standalone
from compliance_copilot.storage.database import Database

MOST_TURNS = 20
_LAST = "SELECT last_question($1, $2) AS question"
_NOTE = "SELECT note_question($1, $2, $3, $4, $5, $6, $7)"
_FORGET = "SELECT forget_conversation($1, $2) AS taken"


@dataclass(frozen=True, slots=True)
class Conversations:
    """What was asked before, one tenant at a time."""

    database: Database

    async def follow(self, permit: Permit, conversation_id: str, question: str) -> str:
        """Return the question so that it stands alone, and note it for the next one.

        Raises StoreUnavailable or DeadlineExceeded.
        """
        tenant, deadline = permit.tenant_id, permit.deadline
        told = standalone(question, await self._last(tenant, conversation_id, deadline))
        days = max(1, permit.config.answer_retention_days)
        note = (conversation_id, permit.request_id, question, told, days, MOST_TURNS)
        await self.database.call(tenant, _NOTE, *note, deadline=deadline)
        return told

    async def forget(self, tenant_id: TenantId, conversation_id: str) -> None:
        """Erase a conversation. Raises NotFound when there is none."""
        rows = await self.database.call(tenant_id, _FORGET, conversation_id)
        if not rows[0]["taken"]:
            raise NotFound("There is no such conversation.", kind="conversation")

    async def _last(
        self, tenant_id: TenantId, conversation_id: str, deadline: Deadline
    ) -> str | None:
        rows = await self.database.call(tenant_id, _LAST, conversation_id, deadline=deadline)
        last: str | None = rows[0]["question"]
        return last
