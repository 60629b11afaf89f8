"""The ledger's rows of the steps in which an agentic question looks for evidence."""

from collections.abc import Sequence
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import EffectiveConfig
from compliance_copilot.orchestrator.attempts import LedgerAttempts
from compliance_copilot.orchestrator.embedding import Embedding
from compliance_copilot.rag import advice, planning
from compliance_copilot.rag.generation import Answerer


@dataclass(slots=True)
class LedgerSteps:
    """Goes along with `rag.investigating`: each step begins with a row of its own.

    A row's outcome is what the step did. `planner` is the tenant's chain of generators; without it
    (a search asks no model) and without a language model in it, the question's words plan.
    """

    attempts: LedgerAttempts
    embedding: Embedding
    planner: Answerer | None
    running: str = "search"

    async def parts(self, question: str) -> Sequence[str]:
        """Return the parts that a model sees in the question, else those its words show."""
        rules = planning.parts(question)
        if self.planner is None or self._config.max_steps == 1:
            return rules
        self.end()
        told = await self.planner.advise(
            advice.PARTS,
            question,
            self._config,
            self.attempts,
            deadline=self.attempts.permit.deadline,
        )
        return told[: planning.MOST_PARTS] or rules

    async def step(self, action: str) -> None:
        """Settle the step before and commit the row of this one."""
        self.end()
        ended, self.attempts.pending = self.attempts.pending, None
        self.running = action
        if ended is not None:
            await self.attempts.meter.next_attempt(ended, self.embedding.for_step(self._config))

    def end(self) -> None:
        """Leave the settlement of what runs with the attempts, unless a model's is there."""
        if self.attempts.pending is None:
            meter = self.attempts.meter
            self.attempts.pending = self.embedding.settlement(self.running, meter)

    @property
    def _config(self) -> EffectiveConfig:
        return self.attempts.permit.config
