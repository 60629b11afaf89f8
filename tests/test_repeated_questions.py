"""The same question of one tenant is paid once; a hit is a row, costs nothing and says so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from compliance_copilot.core.errors import LimitReached
from compliance_copilot.core.events import Cited, Delta, Sources
from compliance_copilot.core.vocabulary import IdempotencyClaim, NewDocument, QueryReply, Replay
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"
POLICY = "# Retention\n\n## 1. Records\n\nCustomer records of {0} are kept for seven years."
HIT = ("cache", "settled", "answered", 0)


@pytest.fixture
async def hosted(settings: Settings, provider: RunningProvider) -> AsyncIterator[Service]:
    update = {
        **provider.openai_settings(),
        "query_timeout_seconds": 20.0,
    }
    async with open_service(settings.model_copy(update=update)) as service:
        for tenant in ("acme", "beta"):
            await make_customer(service, tenant, config={"model_tier": "gpt-4"})
            document = NewDocument(POLICY.format(tenant), "retention")
            await service.copilot.ingest(tenant, [document])
        yield service


async def ask(service: Service, tenant: str = "acme", text: str = QUESTION, **more: Any) -> Any:
    reply = await service.copilot.query(tenant, text, **more)
    assert isinstance(reply, QueryReply)
    return reply


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - another process's log
        await asyncio.sleep(0.02)


async def rows(service: Service, tenant: str = "acme") -> list[tuple[Any, ...]]:
    events, _ = await service.copilot.usage.list(tenant)
    queries = [event for event in reversed(events) if event.operation == "query"]
    return [(e.provider, e.state, e.outcome, e.cost_micro_usd) for e in queries]


async def test_a_hit_is_the_same_answer_free_of_charge_and_a_row_of_its_own(
    hosted: Service, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    first, hit = await ask(hosted), await ask(hosted, text=f"  {QUESTION}\n")
    assert (first.metadata.cached, hit.metadata.cached) == (False, True)
    assert (hit.answer, hit.citations, hit.sources) == (
        first.answer,
        first.citations,
        first.sources,
    )
    assert (hit.metadata.cost_usd, hit.metadata.tokens_used) == (0, 0)
    assert hit.metadata.request_id != first.metadata.request_id
    assert len(provider.calls()) == before + 1
    paid, free = await rows(hosted)
    assert paid[:3] == ("openai", "settled", "answered")
    assert free == HIT
    summary = await hosted.copilot.metrics("acme")
    assert (summary.total_queries, summary.successful_queries, summary.cache_hits) == (2, 2, 1)
    kept = (await hosted.copilot.answers.require("acme", hit.metadata.request_id)).body
    assert kept["metadata"]["cached"]
    use = (await hosted.copilot.limits("acme"))["use"]
    assert (use["held_micro_usd_this_month"], use["queries_in_the_last_hour"]) == (0, 2)


async def test_no_other_tenant_is_given_the_answer(hosted: Service) -> None:
    assert "acme" in (await ask(hosted)).answer
    other = await ask(hosted, "beta")
    assert not other.metadata.cached
    assert "beta" in other.answer


async def test_a_change_of_documents_or_configuration_asks_anew(hosted: Service) -> None:
    await ask(hosted)
    assert (await ask(hosted)).metadata.cached
    assert not (await ask(hosted, override_config={"top_k": 3})).metadata.cached
    await hosted.config.update_tenant_config("acme", min_evidence=0.4)
    assert not (await ask(hosted)).metadata.cached
    changed = NewDocument(POLICY.format("acme").replace("seven", "ten"), "retention")
    await hosted.copilot.ingest("acme", [changed])
    fresh = await ask(hosted)
    assert not fresh.metadata.cached
    assert "ten years" in fresh.answer


async def test_a_client_or_a_tenant_goes_round_the_cache(hosted: Service) -> None:
    await ask(hosted, call=Call(fresh=True))
    assert not (await ask(hosted)).metadata.cached, "it was not kept either"
    assert not (await ask(hosted, call=Call(fresh=True))).metadata.cached
    assert (await ask(hosted)).metadata.cached
    await hosted.config.update_tenant_config("acme", cache=False)
    assert not (await ask(hosted)).metadata.cached


async def test_what_a_fallback_gave_is_kept_for_nobody(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("500")
    assert (await ask(hosted)).metadata.fallback
    provider.fault("normal")
    healthy = await ask(hosted, call=Call(fresh=True))
    while healthy.metadata.fallback:  # until the breaker has seen that it is well again
        await asyncio.sleep(0.2)
        healthy = await ask(hosted, call=Call(fresh=True))
    reply = await ask(hosted)
    assert (reply.metadata.cached, reply.metadata.fallback) == (False, None)


async def test_what_no_key_can_answer_is_kept_although_it_is_a_fallback(service: Service) -> None:
    await make_customer(service, "acme", config={"model_tier": "gpt-4"})
    await service.copilot.ingest("acme", [NewDocument(POLICY.format("acme"), "retention")])
    assert (await ask(service)).metadata.fallback
    assert (await ask(service)).metadata.cached


async def test_equal_questions_at_the_same_time_are_one_call(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("delay", seconds=1.0, count=1)
    before = len(provider.calls())
    replies = await asyncio.gather(*(ask(hosted) for _ in range(6)), ask(hosted, "beta"))
    assert len(provider.calls()) == before + 2, "one of each tenant"
    assert sorted(reply.metadata.cached for reply in replies[:6]) == [False] + [True] * 5
    assert "beta" in replies[6].answer
    assert sorted(await rows(hosted))[:5] == [HIT] * 5


async def test_when_the_first_of_equal_questions_is_cancelled_another_takes_over(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("blackhole", count=1)
    before = len(provider.calls())
    leader = asyncio.create_task(ask(hosted))
    await until(lambda: len(provider.calls()) > before)
    followers = [asyncio.create_task(ask(hosted)) for _ in range(3)]
    while (await hosted.copilot.limits("acme"))["use"]["requests_running"] < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    leader.cancel()
    replies = await asyncio.gather(*followers)
    assert sorted(reply.metadata.cached for reply in replies) == [False, True, True]
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert len(provider.calls()) == before + 2
    summary = await hosted.copilot.metrics("acme")
    assert (summary.total_queries, summary.open_events) == (4, 0)


async def test_a_stream_of_a_hit_tells_the_same_answer(hosted: Service) -> None:
    first = await ask(hosted)
    events = [event async for event in hosted.copilot.stream("acme", QUESTION)]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == first.answer
    assert [e.citation for e in events if isinstance(e, Cited)] == list(first.citations)
    assert isinstance(events[0], Sources)
    assert events[-1].reply.metadata.cached


async def test_an_answer_at_hand_is_not_given_once_another_process_has_changed_the_documents(
    settings: Settings, service: Service
) -> None:
    await make_customer(service, "acme")
    async with open_service(settings) as other:
        await service.copilot.ingest("acme", [NewDocument(POLICY.format("acme"), "retention")])
        await ask(service)
        assert (await ask(service)).metadata.cached
        changed = NewDocument(POLICY.format("acme").replace("seven", "ten"), "retention")
        await other.copilot.ingest("acme", [changed])
        fresh = await ask(service)
        assert "ten years" in fresh.answer
        assert not fresh.metadata.cached
        assert (await ask(service)).metadata.cached
        await other.config.update_tenant_config("acme", cache=False)
        assert not (await ask(service)).metadata.cached
    assert [row[0] for row in await rows(service)] == ["local", "cache", "local", "cache", "local"]


async def test_an_answer_at_hand_counts_against_the_limits_and_is_replayed_once_charged(
    service: Service,
) -> None:
    await make_customer(service, "acme", limits={"max_queries_per_hour": 3})
    await service.copilot.ingest("acme", [NewDocument(POLICY.format("acme"), "retention")])
    await ask(service)
    call = Call(idempotency=IdempotencyClaim("k", b"\1" * 32))
    hit = await ask(service, call=call)
    assert hit.metadata.cached
    assert hit.metadata.remaining == 1
    replay = await service.copilot.query("acme", QUESTION, call=call)
    assert isinstance(replay, Replay)
    assert orjson.loads(hit.written or b"") == replay.reply
    assert (await ask(service)).metadata.remaining == 0
    with pytest.raises(LimitReached):
        await ask(service)
    assert [row[0] for row in await rows(service)] == ["local", "cache", "cache"]
    use = (await service.copilot.limits("acme"))["use"]
    assert (use["queries_in_the_last_hour"], use["requests_running"]) == (3, 0)
