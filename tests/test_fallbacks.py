"""A vendor that fails at each point: the reader gets an answer, the ledger a row per attempt."""

from collections.abc import AsyncIterator

import pytest

from compliance_copilot.core.errors import BudgetExhausted
from compliance_copilot.core.events import Delta
from compliance_copilot.core.vocabulary import NewDocument, Outcome
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"
POLICY = "# Retention\n\n## 1. Records\n\nCustomer records are kept for seven years."


@pytest.fixture
async def hosted(settings: Settings, provider: RunningProvider) -> AsyncIterator[Service]:
    update = {
        **provider.openai_settings(),
        **provider.anthropic_settings(),
        "query_timeout_seconds": 2.5,
    }
    async with open_service(settings.model_copy(update=update)) as service:
        await make_customer(service, "acme", config={"model_tier": "gpt-4"})
        await service.copilot.ingest("acme", [NewDocument(POLICY, "retention")])
        yield service


async def rows(service: Service) -> list[tuple[int, str | None, str, str | None, bool]]:
    events, _ = await service.copilot.usage.list("acme")
    queries = [event for event in events if event.operation == "query"]
    return [(e.attempt, e.provider, e.state, e.outcome, e.final) for e in reversed(queries)]


async def test_a_vendor_that_answers_is_one_row_with_its_tokens(
    hosted: Service, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    reply = await hosted.copilot.query("acme", QUESTION)
    assert (reply.outcome, reply.metadata.fallback) == (Outcome.ANSWERED, None)
    assert await rows(hosted) == [(1, "openai", "settled", "answered", True)]
    assert len(provider.calls()) == before + 1
    assert reply.metadata.input_tokens > 0


@pytest.mark.parametrize(
    ("mode", "options", "reason", "calls", "state"),
    [
        ("500", {}, "server_error", 2, "settled"),
        ("503", {"seconds": 60}, "server_error", 1, "settled"),
        ("429", {"seconds": 60}, "rate_limited", 1, "settled"),
        ("blackhole", {}, "timeout", 1, "interrupted"),
        ("cut", {"after_bytes": 40}, "interrupted", 1, "interrupted"),
        ("cut", {"after_bytes": 600}, "interrupted", 1, "settled"),
    ],
)
async def test_a_vendor_that_fails_hands_over_and_every_attempt_is_a_row(
    hosted: Service,
    provider: RunningProvider,
    mode: str,
    options: dict,
    reason: str,
    calls: int,
    state: str,
) -> None:
    provider.fault(mode, **options)
    before = len(provider.calls())
    reply = await hosted.copilot.query("acme", QUESTION)
    assert reply.outcome is Outcome.ANSWERED
    assert reply.metadata.model == "extractive"
    fallback = dict(reply.metadata.fallback)
    tried = fallback.pop("attempts")
    assert fallback == {"requested": "gpt-4", "answered": "extractive", "reason": reason}
    assert [(t["provider"], t["outcome"]) for t in tried] == [
        *[("openai", reason)] * calls,
        ("local", "ok"),
    ]
    failed = [(n, "openai", state, reason, False) for n in range(1, calls + 1)]
    assert await rows(hosted) == [*failed, (calls + 1, "local", "settled", "answered", True)]
    assert len(provider.calls()) == before + calls, "what may have cost something is not repeated"
    summary = await hosted.copilot.metrics("acme")
    assert (summary.total_queries, summary.successful_queries, summary.open_events) == (1, 1, 0)
    sums = await hosted.tenants._database.call("acme", "SELECT * FROM verify_sums($1)")
    assert sums == []


async def test_a_dead_vendor_costs_the_first_few_questions_their_wait_and_no_more(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("blackhole")
    before = len(provider.calls())
    reasons = [
        (await hosted.copilot.query("acme", QUESTION)).metadata.fallback["reason"] for _ in range(5)
    ]
    assert reasons == ["timeout"] * 3 + ["breaker_open"] * 2
    assert len(provider.calls()) == before + 3
    assert (await rows(hosted))[-1] == (1, "local", "settled", "answered", True)
    generation = (await hosted.status()).components["generation"]
    assert (generation.status, "openai" in generation.detail) == ("limited", True)


async def test_the_second_of_a_chain_answers_with_a_reservation_of_its_own(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("401", path="/v1/chat/completions")
    await hosted.config.update_tenant_config("acme", fallback=["claude"])
    reply = await hosted.copilot.query("acme", QUESTION)
    assert (reply.metadata.model, reply.metadata.fallback["reason"]) == ("claude", "auth")
    assert [(row[1], row[3]) for row in await rows(hosted)] == [
        ("openai", "auth"),
        ("anthropic", "answered"),
    ]


async def test_an_answer_without_a_verifiable_sentence_is_paid_and_replaced(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("unverifiable")
    reply = await hosted.copilot.query("acme", QUESTION)
    assert reply.metadata.fallback["reason"] == "unverifiable_answer"
    assert "seven years" in reply.answer
    assert reply.metadata.cost_usd > 0
    states = await rows(hosted)
    assert [(row[1], row[3]) for row in states] == [
        ("openai", "unverifiable_answer"),
        ("local", "answered"),
    ]


async def test_a_budget_that_does_not_carry_the_worst_case_is_refused_before_any_call(
    hosted: Service, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    tiny = {"monthly_budget_usd": 0.001}
    await hosted.config.update_tenant_config("acme", resource_limits=tiny)
    with pytest.raises(BudgetExhausted):
        await hosted.copilot.query("acme", QUESTION)
    assert len(provider.calls()) == before
    assert await rows(hosted) == []
    await hosted.copilot.query("acme", QUESTION, override_config={"model_tier": "extractive"})
    large = {"monthly_budget_usd": 5}
    await hosted.config.update_tenant_config("acme", resource_limits=large)
    reply = await hosted.copilot.query("acme", QUESTION)
    assert reply.metadata.model == "gpt-4"
    use = (await hosted.copilot.limits("acme"))["use"]
    assert use["held_micro_usd_this_month"] == 0
    assert use["settled_micro_usd_this_month"] == round(reply.metadata.cost_usd * 1_000_000)


@pytest.mark.parametrize("unsupported", ["drop", "mark"])
async def test_a_sentence_without_a_quote_is_dropped_or_marked_and_counted_in_streams_too(
    hosted: Service, provider: RunningProvider, unsupported: str
) -> None:
    provider.fault("unsupported")
    await hosted.config.update_tenant_config("acme", unsupported=unsupported)
    reply = await hosted.copilot.query("acme", QUESTION, call=Call(fresh=True))
    stream = hosted.copilot.stream("acme", QUESTION, call=Call(fresh=True))
    events = [event async for event in stream]
    streamed = events[-1].reply
    told = "".join(event.text for event in events if isinstance(event, Delta))
    assert reply.answer == streamed.answer == told
    assert ("2099" in told, "[unsupported]" in told) == ((unsupported == "mark"),) * 2
    for each in (reply, streamed):
        assert (each.outcome, each.metadata.unsupported_sentences) == (Outcome.PARTIAL, 1)
