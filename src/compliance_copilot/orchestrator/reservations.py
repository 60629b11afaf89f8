"""The most that a request may cost, before it is let in."""

from collections.abc import Callable
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import EffectiveConfig, ModelTier, Reservation
from compliance_copilot.orchestrator.rooms import Rooms
from compliance_copilot.tenancy.admission import Planner

_CHARACTERS_PER_SOURCE = 4_000  # the longest chunk with its headings
_PROMPT_OVERHEAD_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Reservations:
    """What is put aside for each kind of work."""

    rooms: Rooms

    def for_question(self, question: str) -> Planner:
        """Return the plan of a question: who will be asked first, at its worst."""

        def plan(config: EffectiveConfig) -> Reservation:
            return self.on_tier(config, question)(self.rooms.answerer.first(config).tier)

        return plan

    def on_tier(self, config: EffectiveConfig, question: str) -> Callable[[ModelTier], Reservation]:
        """Return what a question costs at most, for each tier."""
        # A token is at least one byte, so characters times four bound the tokens of a prompt.
        sources = config.top_k * _CHARACTERS_PER_SOURCE
        most_input = len(question.encode()) + sources + _PROMPT_OVERHEAD_TOKENS

        def reserve(tier: ModelTier) -> Reservation:
            return self.rooms.metering.prices.reservation(
                tier, most_input_tokens=most_input, most_output_tokens=config.max_tokens
            )

        return reserve
