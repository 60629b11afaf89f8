"""Whatever happens to attempts, in any order: the ledger's sum is the provider's sum."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from compliance_copilot.billing.metering import Meter, Metering, Settlement
from compliance_copilot.core.errors import BudgetExhausted, LimitReached, StoreUnavailable
from compliance_copilot.core.vocabulary import Permit, Reservation, Usage
from compliance_copilot.storage.migrations.routines import SEARCH_PATH
from tests.ledger.conftest import (
    MODEL,
    PRICES,
    RESERVED,
    closed_database,
    expire_leases,
    open_books,
)

T = TypeVar("T")
BUDGET = 8 * RESERVED


@dataclass
class Request:
    """An admitted request, and what the provider did for its present attempt."""

    permit: Permit
    meter: Meter
    called: Settlement | None = None


@dataclass
class Truth:
    """What the provider charged: known to us, or known only to the provider (a crash)."""

    known: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    calls: int = 0


def machine_on(  # noqa: C901 - a class that knows its database
    dsn: str, owner_dsn: str, folder: Path
) -> type[RuleBasedStateMachine]:
    """Return the machine for a database; each example is a tenant of its own."""

    class Ledger(RuleBasedStateMachine):
        requests = Bundle("requests")

        @initialize()
        def begin(self) -> None:
            self.runner = asyncio.Runner()
            self.truth = Truth()
            self.journaled = 0
            self.opening = open_books(dsn, folder / uuid4().hex)
            self.books = self.run(self.opening.__aenter__())
            self.away = Metering(self.run(closed_database(dsn)), PRICES, self.books.journal)
            self.owner = self.run(
                asyncpg.connect(owner_dsn, server_settings={"search_path": SEARCH_PATH})
            )
            name = f"t{uuid4().hex}"
            self.tenant = self.run(self.books.tenant(name, monthly_budget_usd=BUDGET / 1e6))

        def run(self, work: Coroutine[Any, Any, T]) -> T:
            return self.runner.run(work)

        @rule(target=requests)
        def reserve(self) -> Any:
            try:
                permit = self.run(self.books.admit(self.tenant))
            except LimitReached:
                return multiple()
            assert isinstance(permit, Permit)
            return Request(permit, Meter(self.books.metering, permit))

        @rule(request=requests, tokens=st.integers(0, 20_000))
        def call(self, request: Request, tokens: int) -> None:
            if request.called is None and not request.meter.settled:
                request.meter.sent = True
                self.truth.calls += 1
                request.called = Settlement(
                    "answered", provider="openai", model=MODEL, usage=Usage(tokens, 7),
                    response_id=f"resp-{self.truth.calls}",
                )  # fmt: skip

        @rule(request=consumes(requests), outage=st.booleans())
        def settle(self, request: Request, outage: bool) -> None:
            if request.called is None:
                return
            if outage:
                request.meter._metering = self.away
            self.run(request.meter.settle(request.called))
            self.run(request.meter.settle(request.called))
            self.note(request.called)

        def note(self, settlement: Settlement) -> None:
            self.truth.known.append(PRICES.cost(MODEL, settlement.usage).micro_usd)

        @rule(request=requests, outage=st.booleans())
        def retry(self, request: Request, outage: bool) -> None:
            if request.called is None or request.meter.settled:
                return
            request.meter._metering = self.away if outage else self.books.metering
            wanted = Reservation("openai", MODEL, PRICES.version, RESERVED)
            try:
                self.run(request.meter.next_attempt(request.called, wanted))
            except (BudgetExhausted, StoreUnavailable):
                assert request.meter.settled
            self.note(request.called)
            request.called = None

        @rule(request=consumes(requests))
        def cancel(self, request: Request) -> None:
            if not request.meter.settled:
                self.run(request.meter.settle(request.meter.failed("cancelled")))
                self.lose(request)

        @rule(request=consumes(requests))
        def crash(self, request: Request) -> None:
            self.lose(request)

        def lose(self, request: Request) -> None:
            if request.called is not None and request.called.response_id:
                cost = PRICES.cost(MODEL, request.called.usage).micro_usd
                self.truth.lost.append(cost)

        @rule()
        def sweep(self) -> None:
            self.run(expire_leases(self.owner, self.tenant))
            self.run(self.books.database.call(self.tenant, "SELECT end_leases($1)"))

        @rule()
        def replay(self) -> None:
            self.run(self.books.metering.replay())

        @rule()
        def replay_in_vain(self) -> None:
            if self.books.journal.pending:
                try:
                    self.run(self.away.replay())
                except StoreUnavailable:
                    return
                raise AssertionError("a closed database settled something")

        def spent(self) -> int:
            return int(self.run(self.owner.fetchval(
                "SELECT coalesce(sum(cost_micro_usd), 0) FROM usage_events WHERE tenant_id = $1",
                self.tenant,
            )))  # fmt: skip

        @invariant()
        def sums_equal_the_ledger(self) -> None:
            if hasattr(self, "tenant"):
                assert self.run(self.books.differences(self.tenant)) == []
                if not self.books.journal.pending:
                    assert self.spent() == sum(self.truth.known)

        def teardown(self) -> None:
            if not hasattr(self, "tenant"):
                return
            self.replay()
            self.sweep()
            assert self.spent() == sum(self.truth.known)
            left = self.run(self.owner.fetchrow(
                "SELECT count(*) FILTER (WHERE state = 'reserved') AS open,"
                " count(*) FILTER (WHERE state = 'interrupted') AS unknown"
                " FROM usage_events WHERE tenant_id = $1", self.tenant,
            ))  # fmt: skip
            assert left["open"] == 0
            assert left["unknown"] >= len(self.truth.lost), "each lost call has a row that says so"
            self.run(self.owner.close())
            self.run(self.opening.__aexit__(None, None, None))
            self.runner.close()

    return Ledger


def test_the_ledgers_sum_is_the_providers_whatever_happens(
    server: Any, database_name: str, tmp_path: Path
) -> None:
    machine = machine_on(
        server.serving_dsn(database_name), server.owner_dsn(database_name), tmp_path
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
