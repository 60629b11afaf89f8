"""The ledger's rows of a question, as the chain of generators moves on."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.vocabulary import ModelTier, Permit, Reservation
from compliance_copilot.rag.attempting import Link, Settled

_UNKNOWN = frozenset({"timeout", "interrupted"})
"""Outcomes after which a vendor may charge what it never told us."""


@dataclass(slots=True)
class LedgerAttempts:
    """Keeps what one attempt used until the next begins or the request ends.

    `pending` is the ended attempt that is not settled yet. Who did metered work before the chain
    (a hosted embedder, a step of the agentic mode) leaves its settlement there.
    """

    meter: Meter
    permit: Permit
    reserve: Callable[[ModelTier], Reservation]
    pending: Settlement | None = None

    async def begin(self, link: Link) -> None:
        """Commit the row of the next attempt; admission has committed the first."""
        if self.pending is None and not self._is_reserved(link):
            self.pending = Settlement("not_called", state="released")
        if self.pending is not None:
            ended, self.pending = self.pending, None
            await self.meter.next_attempt(ended, self.reserve(link.tier))
        self.meter.sent = True

    def ended(self, link: Link, settled: Settled) -> None:
        """Take note of how the attempt ended."""
        self.pending = settlement_of(link, settled)

    def last(self, outcome: str) -> Settlement:
        """Return the settlement of the attempt that answered, with what the answer amounts to."""
        if self.pending is None:
            raise RuntimeError("nobody has answered")
        return replace(self.pending, outcome=outcome)

    def _is_reserved(self, link: Link) -> bool:
        """Tell whether the first row's money carries this call; a local one costs nothing."""
        reserved = self.permit.reservation
        provider = link.generator.provider
        return provider == "local" or (reserved.provider, reserved.model) == (provider, link.model)


def settlement_of(link: Link, settled: Settled) -> Settlement:
    """Return the ledger's row of one call of a generator."""
    used = settled.usage
    unknown = settled.outcome in _UNKNOWN and not (used.input_tokens or used.output_tokens)
    hosted = link.generator.provider != "local"
    return Settlement(
        settled.outcome,
        state="interrupted" if unknown and hosted else "settled",
        provider=link.generator.provider,
        model=link.model,
        provider_model=settled.provider_model or link.model,
        response_id=settled.response_id,
        usage=used,
        estimated=settled.estimated or (unknown and hosted),
    )
