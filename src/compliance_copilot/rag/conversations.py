"""Conversations of every tenant: their last questions, for the next one to lean on.

Must not enter: how a follow-up is made to stand alone (`conversation.py`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import Permit, TenantId
from compliance_copilot.rag.conversation import standalone
from compliance_copilot.storage.database import Database

MOST_TURNS = 20
Rewrite = Callable[[str, str], Awaitable[str | None]]
"""Makes a follow-up (second) to a question (first) stand alone, or gives None."""
_LAST = "SELECT last_question($1, $2) AS question"
_NOTE = "SELECT note_question($1, $2, $3, $4, $5, $6, $7)"
_FORGET = "SELECT forget_conversation($1, $2) AS taken"


@dataclass(frozen=True, slots=True)
class Conversations:
    """What was asked before, one tenant at a time."""

    database: Database

    async def follow(
        self, permit: Permit, conversation_id: str, question: str, rewrite: Rewrite
    ) -> str:
        """Return the question so that it stands alone, and note it for the next one.

        `rewrite` is asked about a follow-up first; a rule takes its place when it knows nothing.
        Raises StoreUnavailable or DeadlineExceeded.
        """
        tenant, deadline = permit.tenant_id, permit.deadline
        before = await self._last(tenant, conversation_id, deadline)
        told = standalone(question, before)
        if before is not None and told != question:
            told = await rewrite(before, question) or told
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
