"""The seed's five failures, each shown not to happen: what befalls A changes nothing for B."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import asyncpg
import pytest
from opentelemetry import baggage

from compliance_copilot.billing.sweeping import sweep_once
from compliance_copilot.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LimitReached,
    TenantMismatch,
    UnknownTenant,
)
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.tenancy.context import TenantContext
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.isolation import drills

QUESTION = "How long are customer records kept?"


class TestCacheRace:
    """Seed: a shared cache without tenant isolation shows A what belongs to B."""

    async def test_configurations_changed_at_once_never_mix(self, service: Service) -> None:
        tenants = await drills.make_tenants(service, 4)

        async def toggle(tenant: TenantId, top_k: int) -> None:
            for _ in range(5):
                await service.config.update_tenant_config(tenant, top_k=top_k)
                reply = await service.copilot.search(tenant, "archive")
                assert len(reply.results) <= top_k
                assert not drills._foreign(tenant, "search", reply)

        await asyncio.gather(*(toggle(t, n) for n, t in enumerate(tenants, start=1)))

    async def test_two_configurations_of_the_same_version_stay_apart(
        self, service: Service
    ) -> None:
        for mode in ("basic", "hybrid"):
            await make_customer(service, f"tenant-{mode}", config={"retrieval_mode": mode})
        for mode in ("basic", "hybrid", "basic", "hybrid"):
            reply = await service.copilot.query(f"tenant-{mode}", QUESTION)
            assert reply.metadata.retrieval_mode == mode


class TestCascadingRateLimits:
    """Seed: one heavy tenant uses up what others need."""

    async def test_a_tenant_over_its_limit_stops_itself_alone(self, service: Service) -> None:
        await make_customer(service, "heavy", limits={"max_queries_per_hour": 3})
        await make_customer(service, "quiet", limits={"max_queries_per_hour": 3})
        replies = await asyncio.gather(
            *(service.copilot.query("heavy", QUESTION) for _ in range(20)), return_exceptions=True
        )
        assert sum(isinstance(reply, LimitReached) for reply in replies) == 17
        for _ in range(3):
            await service.copilot.query("quiet", QUESTION)
        with pytest.raises(LimitReached):
            await service.copilot.query("quiet", QUESTION)


class TestPoolExhaustion:
    """Seed: bulk work takes every connection."""

    async def test_questions_are_answered_while_another_tenant_ingests(
        self, service: Service
    ) -> None:
        (quiet,) = await drills.make_tenants(service, 1)
        await make_customer(service, "bulk")
        documents = [drills.document_of("bulk", n, n) for n in range(200)]
        bulk = [
            asyncio.create_task(service.copilot.ingest("bulk", documents[n : n + 25]))
            for n in range(0, 200, 25)
        ]
        replies = [await service.copilot.query(quiet, QUESTION) for _ in range(10)]
        assert all(reply.sources for reply in replies)
        await asyncio.gather(*bulk)
        assert len(await service.copilot.documents.list("bulk", limit=500)) == 200

    async def test_a_request_that_finds_no_connection_ends_by_its_deadline(
        self, settings: Settings
    ) -> None:
        hasty = settings.model_copy(update={"query_timeout_seconds": 0.3, "database_pool_size": 1})
        async with open_service(hasty) as service:
            (tenant,) = await drills.make_tenants(service, 1)
            database = service.tenants._database
            async with database.platform_transaction():
                with pytest.raises(DeadlineExceeded):
                    await service.copilot.query(tenant, QUESTION)
            assert (await service.copilot.query(tenant, QUESTION)).sources


class TestContextLoss:
    """Seed: the identity is lost half way, or stays where it does not belong."""

    async def test_the_tenant_survives_await_tasks_and_bound_executors(self) -> None:
        with TenantContext.bind(TenantId("acme")):
            await asyncio.sleep(0)
            assert await asyncio.create_task(_current()) == ("acme", "acme")
            assert await asyncio.to_thread(_now) == ("acme", "acme")
            with ThreadPoolExecutor(1) as pool:
                loop = asyncio.get_running_loop()
                context = copy_context()
                assert await loop.run_in_executor(pool, context.run, _now) == ("acme", "acme")
                assert await loop.run_in_executor(pool, _now) == (None, None)
        assert _now() == (None, None)

    async def test_a_request_leaves_the_context_as_it_found_it(self, service: Service) -> None:
        first, second = await drills.make_tenants(service, 2)
        await service.copilot.query(first, QUESTION)
        assert _now() == (None, None)
        TenantContext.set_tenant(first)
        await service.copilot.query(second, QUESTION)
        assert _now() == (first, first)
        none = {"max_queries_per_hour": 0}
        await service.config.update_tenant_config(second, resource_limits=none)
        with pytest.raises(LimitReached):
            await service.copilot.query(second, QUESTION)
        assert _now() == (first, first)
        TenantContext.clear_tenant()
        assert _now() == (None, None)

    async def test_work_for_another_tenant_than_the_bound_one_is_refused(self) -> None:
        with TenantContext.bind(TenantId("acme")):
            TenantContext.verify(TenantId("acme"))
            with pytest.raises(TenantMismatch):
                TenantContext.verify(TenantId("beta"))
        with pytest.raises(TenantMismatch):
            TenantContext.verify(TenantId("acme"))

    async def test_a_background_load_does_not_inherit_the_tenant(self, service: Service) -> None:
        (tenant,) = await drills.make_tenants(service, 1)
        seen: list[object] = []
        index = service.copilot._rooms.retriever.index
        load = index._load

        async def watched(tenant_id: TenantId) -> None:
            seen.append(_now())
            await load(tenant_id)

        index._load = watched
        await service.copilot.query(tenant, QUESTION)
        await index.settled()
        assert seen == [(None, None)]


class TestBillingLag:
    """Seed: work is done, and the bill comes late or never."""

    async def test_the_row_is_settled_when_the_answer_is_there(self, service: Service) -> None:
        first, second = await drills.make_tenants(service, 2)
        reply = await service.copilot.query(first, QUESTION)
        events, _ = await service.copilot.usage.list(first)
        row = next(e for e in events if e.request_id == reply.metadata.request_id)
        assert (row.state, row.final, row.outcome) == ("settled", True, reply.outcome)
        events, _ = await service.copilot.usage.list(second)
        assert [event.operation for event in events] == ["ingest"]

    async def test_a_cancelled_request_is_settled_too(
        self, service: Service, owner: asyncpg.Connection
    ) -> None:
        (tenant,) = await drills.make_tenants(service, 1)
        task = asyncio.create_task(service.copilot.query(tenant, QUESTION))
        await asyncio.sleep(0.004)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.1)
        # Cancelled while it was being admitted, its row is left to the sweep.
        await owner.execute("UPDATE usage_events SET lease_expires_at = now()")
        await sweep_once(service.tenants._database)
        events, _ = await service.copilot.usage.list(tenant)
        assert {event.state for event in events} <= {"settled", "released"}
        sums = "SELECT * FROM verify_sums($1)"
        assert await service.tenants._database.call(tenant, sums) == []


async def test_a_cancelled_request_takes_no_other_tenants_started_write_away(
    service: Service,
) -> None:
    first, second = await drills.make_tenants(service, 2)
    service.config.update_tenant_config(first, top_k=3)
    waiting = asyncio.create_task(service.copilot.query(second, QUESTION))
    await asyncio.sleep(0)  # it waits for the write of the first tenant now
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await service.copilot.query(second, QUESTION)
    _, explained = await service.config.explain(first)
    assert explained["top_k"].value == 3


async def test_an_awaited_write_that_fails_is_met_by_nobody_else(service: Service) -> None:
    (tenant,) = await drills.make_tenants(service, 1)
    results = await asyncio.gather(
        _write(service, "nobody"),
        *(service.copilot.query(tenant, QUESTION) for _ in range(5)),
        return_exceptions=True,
    )
    assert isinstance(results[0], UnknownTenant)
    assert not [result for result in results[1:] if isinstance(result, BaseException)]


async def _write(service: Service, tenant_id: str) -> int:
    return await service.config.update_tenant_config(tenant_id, top_k=3)


async def test_a_broken_document_and_a_bad_configuration_stop_nobody_else(
    service: Service,
) -> None:
    first, second = await drills.make_tenants(service, 2)
    with pytest.raises(InvalidRequest):
        await service.copilot.ingest(first, [NewDocument(" ", "broken")])
    with pytest.raises(InvalidRequest):
        service.config.update_tenant_config(first, top_k=0)
    with pytest.raises(UnknownTenant):
        await service.config.update_tenant_config("nobody", top_k=3)
    assert (await service.copilot.query(second, QUESTION)).sources


async def _current() -> tuple[object, object]:
    await asyncio.sleep(0)
    return _now()


def _now() -> tuple[object, object]:
    return TenantContext.get_tenant(), baggage.get_baggage("tenant_id")
