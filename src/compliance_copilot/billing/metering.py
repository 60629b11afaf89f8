"""The two steps of the ledger seen from the work: the intent is there, the settlement follows.

Admission has committed attempt 1 before a Meter exists, so no provider is called without a row.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from compliance_copilot.billing.counting import count_attempt, count_end
from compliance_copilot.billing.journal import Journal
from compliance_copilot.billing.prices import PriceBook
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import (
    BudgetExhausted,
    Conflict,
    CopilotError,
    DeadlineExceeded,
    InvalidRequest,
    LimitReached,
    StoreUnavailable,
)
from compliance_copilot.core.replies import documents_of
from compliance_copilot.core.vocabulary import Permit, Reservation, TenantId, Usage
from compliance_copilot.storage.database import Database
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import span

LOG = logging.getLogger(__name__)
FREE = (None, "local", "cache")
REFUSALS = (InvalidRequest, LimitReached, Conflict)
_SETTLE = "SELECT settle($1, $2)"
_NEXT = "SELECT next_attempt($1, $2, $3, $4, $5, $6, $7, $8) AS attempt"
_COLUMNS = (
    "request_id", "attempt", "state", "final", "provider", "model", "provider_model",
    "provider_response_id", "input_tokens", "output_tokens", "cached_input_tokens",
    "cost_micro_usd", "unpriced", "estimated", "outcome", "latency_ms", "request_latency_ms",
    "uncounted", "reply", "content_hash", "documents", "retention_days",
)  # fmt: skip
_LEAST_SETTLE_SECONDS, _MOST_SETTLE_SECONDS = 0.5, 5.0
_DRAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt ended. `provider` None: nobody was called."""

    outcome: str
    state: str = "settled"
    provider: str | None = None
    model: str | None = None
    provider_model: str | None = None
    response_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    estimated: bool = False
    uncounted: bool = False
    """The request was refused after admission (4xx) and uses up no rate."""


class Meter:
    """The attempts of one admitted request, settled one after the other, each exactly once."""

    def __init__(
        self, metering: "Metering", permit: Permit, began_seconds: float | None = None
    ) -> None:
        self._metering = metering
        self._prices = metering.prices
        self._permit = permit
        self._attempt = permit.attempt
        self._began_seconds = began_seconds or time.monotonic()
        self._attempt_began_seconds = self._began_seconds
        self.settled = False
        self.written: bytes | None = None
        """The reply in JSON as it was settled."""
        self.sent = False
        """A generator was called: from then on a failure may have cost something."""
        self.known: Usage | None = None
        """What the running attempt has used, while nothing of it is under way; None: unknown."""
        self._running = permit.reservation
        self.cost_micro_usd = 0
        self.usage = Usage()

    def failed(self, outcome: str) -> Settlement:
        """Return how a failure is settled: what was never sent is released; what a vendor has
        certainly done is charged; where that is unknown, it is interrupted.
        """
        if not self.sent:
            return Settlement(outcome, state="released")
        if not self._hosted:
            return Settlement(outcome, provider="local")
        if self.known is not None:
            return self._charged(outcome, self.known)
        return Settlement(outcome, state="interrupted", estimated=True)

    def refused(self, outcome: str) -> Settlement:
        """Return how a refusal after admission is settled: no rate is used up, and only what a
        vendor has done meanwhile is charged.
        """
        if self._hosted and self.known is not None:
            return replace(self._charged(outcome, self.known), uncounted=True)
        return Settlement(outcome, state="released", uncounted=True)

    def _charged(self, outcome: str, usage: Usage) -> Settlement:
        running = self._running
        return Settlement(outcome, provider=running.provider, model=running.model, usage=usage)

    @property
    def _hosted(self) -> bool:
        return self._running.provider not in FREE

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the request was admitted."""
        return (time.monotonic() - self._began_seconds) * 1000

    async def next_attempt(self, settlement: Settlement, reservation: Reservation) -> None:
        """Settle the running attempt and reserve the next, in one transaction.

        Raises BudgetExhausted; the running attempt is settled all the same.
        """
        limits = self._permit.limits
        budget = limits.monthly_budget_usd
        try:
            rows = await self._metering.database.call(
                self._permit.tenant_id,
                _NEXT,
                self._row(settlement, final=False, reply=None),
                None if budget is None else round(budget * 1_000_000),
                reservation.provider,
                reservation.model,
                reservation.micro_usd,
                reservation.unpriced,
                self._permit.lease_seconds,
                deadline=self._permit.deadline,
            )
        except BaseException:
            # Committed or not is unknown here; to settle the same attempt twice changes nothing.
            await self.settle(settlement)
            raise
        self._add(settlement)
        if rows[0]["attempt"] is None:
            self.settled = True
            count_end(self._permit, BudgetExhausted.code)
            raise BudgetExhausted(
                "The month's budget does not carry another attempt.", limit="monthly_budget_usd"
            )
        self._attempt = rows[0]["attempt"]
        self._running = reservation
        self.sent, self.known = False, None
        self._attempt_began_seconds = time.monotonic()

    async def settle(
        self, settlement: Settlement, *, reply: Mapping[str, Any] | None = None
    ) -> None:
        """End the request's last attempt. `reply` is kept as long as the tenant has set.

        On return the settlement is committed, or in the journal when the database is away. A
        caller who is cancelled meanwhile does not stop it.
        """
        if self.settled:
            return
        row = self.prepared(settlement, reply=reply)
        self.was_settled(settlement)
        await self._metering.settle(self._permit, row)

    def prepared(
        self, settlement: Settlement, *, reply: Mapping[str, Any] | None
    ) -> tuple[object, ...]:
        """Return the settlement of an answer at hand, for admission to make it."""
        return self._row(settlement, final=True, reply=reply)

    def was_settled(self, settlement: Settlement) -> None:
        """Count what admission has settled as `prepared`."""
        self.settled = True
        self._add(settlement)
        count_end(self._permit, settlement.outcome)

    def cost_of(self, settlement: Settlement) -> int:
        """Return what an attempt costs in micro-USD."""
        return self._cost(settlement)[0]

    def _cost(self, settlement: Settlement) -> tuple[int, bool]:
        if settlement.provider in FREE:
            return 0, False
        model = settlement.provider_model or settlement.model or ""
        cost = self._prices.cost(model, settlement.usage, self._permit.admitted_at)
        if cost.unpriced and settlement.model:
            cost = self._prices.cost(settlement.model, settlement.usage, self._permit.admitted_at)
        return cost.micro_usd, cost.unpriced

    def usage_with(self, settlement: Settlement) -> Usage:
        """Return the tokens of all attempts, this one included."""
        return Usage(
            self.usage.input_tokens + settlement.usage.input_tokens,
            self.usage.output_tokens + settlement.usage.output_tokens,
            self.usage.cached_input_tokens + settlement.usage.cached_input_tokens,
        )

    def _add(self, settlement: Settlement) -> None:
        micro_usd, unpriced = self._cost(settlement)
        count_attempt(self._permit, settlement, micro_usd=micro_usd, unpriced=unpriced)
        self.cost_micro_usd += micro_usd
        self.usage = self.usage_with(settlement)

    def _row(
        self, s: Settlement, *, final: bool, reply: Mapping[str, Any] | None
    ) -> tuple[object, ...]:
        micro_usd, unpriced = self._cost(s)
        if unpriced:
            LOG.error("no price for %s: the row is unpriced", s.provider_model or s.model)
        now = time.monotonic()
        self.written = None if reply is None else orjson.dumps(reply)
        return (
            self._permit.request_id,
            self._attempt,
            s.state,
            final,
            s.provider,
            s.model,
            s.provider_model,
            s.response_id,
            s.usage.input_tokens,
            s.usage.output_tokens,
            s.usage.cached_input_tokens,
            micro_usd,
            unpriced,
            s.estimated,
            s.outcome,
            (now - self._attempt_began_seconds) * 1000,
            (now - self._began_seconds) * 1000 if final else None,
            s.uncounted,
            None if self.written is None else self.written.decode(),
            reply.get("content_hash") if reply else None,
            documents_of(reply) if reply else None,
            self._permit.config.answer_retention_days,
        )


class Metering:
    """Makes a meter for a permit, and sees every settlement to its end."""

    def __init__(self, database: Database, prices: PriceBook, journal: Journal) -> None:
        self.database = database
        self.prices = prices
        self._journal = journal
        self._settling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def request(self, permit: Permit) -> AsyncIterator[Meter]:
        """Give the meter of an admitted request; an error settles what the work did not.

        A refusal after admission (4xx) is released and uses up no rate; a failure and a caller
        who went away are settled with that outcome.
        """
        meter = Meter(self, permit)
        try:
            yield meter
        except REFUSALS as refusal:
            await meter.settle(meter.refused(refusal.code))
            raise
        except CopilotError as error:
            await meter.settle(meter.failed(error.code))
            raise
        except BaseException:  # cancelled, or a fault of ours: the row does not stay open
            await meter.settle(meter.failed("cancelled"))
            raise

    async def settle(self, permit: Permit, row: tuple[object, ...]) -> None:
        """Settle one attempt in a task that outlives its caller."""
        task = asyncio.create_task(self._settle(permit, row), name="settle")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        await asyncio.shield(task)

    async def _settle(self, permit: Permit, row: tuple[object, ...]) -> None:
        left = permit.deadline.remaining_seconds()
        deadline = Deadline.after(min(max(left, _LEAST_SETTLE_SECONDS), _MOST_SETTLE_SECONDS))
        began, way = time.perf_counter(), "database"
        with span("settle") as settling:
            try:
                await self.database.call(permit.tenant_id, _SETTLE, row, deadline=deadline)
            except (StoreUnavailable, DeadlineExceeded) as error:
                way = "journal"
                await self._journal.append(permit.tenant_id, dict(zip(_COLUMNS, row, strict=True)))
                LOG.warning("%s: a settlement went into the journal", error.code)
            settling.set_attribute("way", way)
        metrics.SETTLEMENT.labels(way).observe(time.perf_counter() - began)

    async def replay(self) -> int:
        """Settle what this process had to put into its journal; return how many.

        Raises StoreUnavailable or DeadlineExceeded while the database is still away.
        """
        return await self._journal.replay(self._settle_again)

    async def recover(self) -> int:
        """Settle what killed processes left in their journals; return how many."""
        return await self._journal.adopt(self._settle_again)

    async def _settle_again(self, tenant_id: TenantId, settlement: Mapping[str, Any]) -> None:
        row = tuple(settlement.get(name) for name in _COLUMNS)
        await self.database.call(tenant_id, _SETTLE, row)

    async def drain(self) -> None:
        """Wait for settlements under way, then try the journal once more."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_DRAIN_SECONDS)
        try:
            await self.replay()
        except CopilotError as error:
            LOG.warning("%s: the journal is left for the next start", error.code)
