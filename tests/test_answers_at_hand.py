"""What this process can say by itself is made before admission, and given only with it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from compliance_copilot.core.errors import LimitReached, Unauthenticated, UnknownTenant
from compliance_copilot.core.events import Done, Sources
from compliance_copilot.core.vocabulary import NewDocument, QueryReply, Scope, TenantId
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.orchestrator.asking import Asking
from compliance_copilot.settings import Settings
from compliance_copilot.tenancy.tenants import TenantChange
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"
POLICY = "# Retention\n\n## 1. Records\n\nCustomer records are kept for {} years."
ACME = TenantId("acme")
FRESH = Call(fresh=True)


class Counted:
    """Counts the answers that are made before admission."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        really: Callable[..., Awaitable[Any]] = Asking.made

        async def made(asking: Asking, *arguments: Any) -> Any:
            self.made += 1
            return await really(asking, *arguments)

        monkeypatch.setattr(Asking, "made", made)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


async def open_acme(service: Service, **more: Any) -> None:
    await make_customer(service, "acme", **more)
    await keep_for(service, "seven")


async def keep_for(service: Service, years: str) -> None:
    await service.copilot.ingest("acme", [NewDocument(POLICY.format(years), "retention")])


async def ask(service: Service, call: Call = FRESH, text: str = QUESTION) -> QueryReply:
    reply = await service.copilot.query("acme", text, call=call)
    assert isinstance(reply, QueryReply)
    return reply


async def limited(service: Service, limits: dict[str, int]) -> None:
    await service.tenants.update(ACME, TenantChange(limits=limits))


async def mapped(service: Service, counted: Counted) -> None:
    """Ask until answers are made at hand: the corpus is being mapped meanwhile."""
    async with asyncio.timeout(20):
        while not counted.made:
            await ask(service)
            await asyncio.sleep(0.02)
    counted.made = 0


async def queries(service: Service) -> list[tuple[Any, ...]]:
    events, _ = await service.copilot.usage.list("acme")
    rows = [event for event in reversed(events) if event.operation == "query"]
    return [(e.provider, e.state, e.outcome, e.final, e.attempt) for e in rows]


async def test_an_answer_made_at_hand_is_the_one_that_admission_first_gives(
    service: Service, counted: Counted
) -> None:
    await open_acme(service)
    first = await ask(service)
    assert counted.made == 0
    await mapped(service, counted)
    made = await ask(service)
    assert counted.made == 1
    assert (made.answer, made.outcome) == (first.answer, first.outcome)
    assert made.sources == first.sources
    assert made.citations == first.citations
    assert made.metadata.reset_seconds is not None
    kept = await service.copilot.answers.require(ACME, made.metadata.request_id)
    assert kept.body["answer"] == made.answer
    rows = await queries(service)
    assert set(rows) == {("local", "settled", "answered", True, 1)}


async def test_documents_changed_by_another_process_are_never_missed(
    settings: Settings, service: Service, counted: Counted
) -> None:
    await open_acme(service)
    await mapped(service, counted)
    async with open_service(settings) as other:
        for years in ("eight", "nine", "ten"):
            await keep_for(other, years)
            assert f"{years} years" in (await ask(service)).answer
    assert counted.made


async def test_a_configuration_changed_by_another_process_holds_for_the_next_question(
    settings: Settings, service: Service, counted: Counted
) -> None:
    await open_acme(service)
    await mapped(service, counted)
    async with open_service(settings) as other:
        await other.config.update_tenant_config("acme", top_k=1, retrieval_mode="hybrid")
        assert (await ask(service)).metadata.retrieval_mode == "hybrid"
        assert counted.made == 1  # in vain: it was made under the configuration before


async def test_who_is_over_a_limit_gets_nothing_and_is_not_worked_for_again(
    service: Service, counted: Counted
) -> None:
    await open_acme(service)
    await mapped(service, counted)
    used = (await service.copilot.limits("acme"))["use"]["queries_in_the_last_hour"]
    await limited(service, {"max_queries_per_hour": used + 2})
    await ask(service)
    await ask(service)
    counted.made = 0
    for _ in range(3):
        with pytest.raises(LimitReached):
            await ask(service)
    assert counted.made == 1
    assert len(await queries(service)) == used + 2
    await limited(service, {"max_queries_per_hour": used + 9})
    counted.made = 0
    await ask(service)
    await ask(service)
    assert counted.made == 1


async def test_limits_stay_exact_when_many_ask_at_once(service: Service, counted: Counted) -> None:
    await open_acme(service)
    await mapped(service, counted)
    used = (await service.copilot.limits("acme"))["use"]["queries_in_the_last_hour"]
    await limited(service, {"max_queries_per_hour": used + 10, "max_concurrent_requests": 50})
    replies = await asyncio.gather(*(ask(service) for _ in range(40)), return_exceptions=True)
    assert sum(isinstance(reply, QueryReply) for reply in replies) == 10
    assert sum(isinstance(reply, LimitReached) for reply in replies) == 30
    assert counted.made
    use = (await service.copilot.limits("acme"))["use"]
    assert (use["queries_in_the_last_hour"], use["requests_running"]) == (used + 10, 0)


async def test_equal_questions_at_one_moment_are_answered_once(
    service: Service, counted: Counted
) -> None:
    await open_acme(service, limits={"max_concurrent_requests": 20})
    await mapped(service, counted)
    text = "For how many years are customer records kept?"
    replies = await asyncio.gather(*(ask(service, Call(), text) for _ in range(8)))
    assert counted.made == 1
    assert sum(not reply.metadata.cached for reply in replies) == 1
    assert len({reply.answer for reply in replies}) == 1


async def test_a_stream_shows_nothing_before_it_is_let_in(
    service: Service, counted: Counted
) -> None:
    await open_acme(service)
    await mapped(service, counted)
    events = [event async for event in service.copilot.stream("acme", QUESTION, call=FRESH)]
    assert counted.made == 1
    assert isinstance(events[0], Sources)
    assert isinstance(events[-1], Done)
    used = (await service.copilot.limits("acme"))["use"]["queries_in_the_last_hour"]
    await limited(service, {"max_queries_per_hour": used})
    with pytest.raises(LimitReached):
        await anext(service.copilot.stream("acme", QUESTION, call=FRESH))


async def test_a_revoked_key_and_an_ended_tenant_get_nothing(
    service: Service, counted: Counted
) -> None:
    await open_acme(service)
    await mapped(service, counted)
    key = await service.keys.create(ACME, name="short-lived", scopes=(Scope.QUERY,))
    principal = await service.keys.identify(key.secret, fresh=True)
    assert principal is not None
    call = Call(principal=principal, fresh=True)
    await ask(service, call)
    await service.keys.revoke(ACME, key.key_id)
    counted.made = 0
    with pytest.raises(Unauthenticated):
        await ask(service, call)
    assert counted.made == 1
    await ask(service)
    await service.erasing.tenant(ACME, requested_by="operator")
    with pytest.raises(UnknownTenant):
        await ask(service)


async def test_what_a_vendor_answers_is_admitted_first(
    settings: Settings, provider: RunningProvider, counted: Counted
) -> None:
    async with open_service(settings.model_copy(update=provider.openai_settings())) as service:
        await open_acme(service, config={"model_tier": "gpt-4"})
        for _ in range(3):
            await ask(service)
            await asyncio.sleep(0.2)
    assert counted.made == 0
