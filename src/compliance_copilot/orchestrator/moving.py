"""Embedding for a corpus that moves: a vendor's calls are rows of the ledger like an ingest's."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import BudgetExhausted, Conflict, LimitReached
from compliance_copilot.core.vocabulary import Operation, Permit, Replay, TenantId
from compliance_copilot.orchestrator.embedding import Embedding, MeteredEmbedder
from compliance_copilot.orchestrator.reception import Reception
from compliance_copilot.orchestrator.rooms import NOBODY
from compliance_copilot.rag.ports import Vectors
from compliance_copilot.tenancy.admission import Ask


@dataclass(frozen=True, slots=True)
class Moving:
    """Embeds a tenant's texts anew."""

    reception: Reception
    embedding: Embedding

    async def embed(self, tenant_id: TenantId, texts: Sequence[str]) -> Vectors:
        """Return unit vectors. Raises ModelUnavailable, BudgetExhausted, StoreUnavailable."""
        if not self.embedding.hosted:
            deadline = Deadline.after(self.reception.timeouts.ingest_seconds)
            return (await self.embedding.embedder.embed(texts, deadline=deadline)).vectors
        plan = self.embedding.for_texts(texts)
        permit = await self._admitted(
            tenant_id, self.reception.ask(Operation.INGEST, None, NOBODY, plan)
        )
        async with self.reception.metered(permit) as meter:
            embedder = MeteredEmbedder(self.embedding.embedder, meter)
            embedded = await embedder.embed(texts, deadline=permit.deadline)
            await meter.settle(self.embedding.settlement("ok", meter))
            return embedded.vectors

    async def _admitted(self, tenant_id: TenantId, ask: Ask) -> Permit:
        """Let a batch in; where the tenant's rate is used up, wait for it."""
        while True:
            try:
                permit = await self.reception.rooms.admission.admit(tenant_id, ask)
            except BudgetExhausted:
                raise
            except LimitReached as limit:
                await asyncio.sleep(cast("float", limit.facts.get("retry_after_seconds", 1)))
                continue
            if isinstance(permit, Replay):
                raise Conflict("A reindex has no Idempotency-Key.")
            return permit
