"""The ledger's rows of the steps in which an agentic question looks for evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from compliance_copilot.billing.metering import Meter
from compliance_copilot.core.vocabulary import EffectiveConfig
from compliance_copilot.orchestrator.embedding import Embedding
from compliance_copilot.rag import planning


@dataclass(slots=True)
class LedgerSteps:
    """Goes along with `rag.investigating`: each step begins with a row of its own.

    A row's outcome is what the step did.
    """

    meter: Meter
    embedding: Embedding
    config: EffectiveConfig
    running: str = "search"

    async def parts(self, question: str) -> Sequence[str]:
        """Return the parts that the words of the question show."""
        return planning.parts(question)

    async def step(self, action: str) -> None:
        """Settle the step before and commit the row of this one."""
        ended, self.running = self.embedding.settlement(self.running, self.meter), action
        await self.meter.next_attempt(ended, self.embedding.for_step(self.config))
