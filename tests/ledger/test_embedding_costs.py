"""A hosted embedder in the ledger: no call without a row, every call in one, tokens exact."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from compliance_copilot.billing.ledger import UsageEvent
from compliance_copilot.core.errors import (
    BudgetExhausted,
    DeadlineExceeded,
    LimitReached,
    ModelUnavailable,
)
from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"
POLICY = NewDocument(
    "# Retention\n\n## 1. Records\n\nCustomer records are kept for seven years.", "retention"
)
EMBEDDINGS, CHAT = "/v1/embeddings", "/v1/chat/completions"
MODEL = "text-embedding-3-small"


@pytest.fixture
async def hosted(settings: Settings, provider: RunningProvider) -> AsyncIterator[Service]:
    update = {
        **provider.openai_settings(),
        "embedding_provider": "openai",
        "query_timeout_seconds": 6.0,
    }
    async with open_service(settings.model_copy(update=update)) as service:
        await make_customer(service, "acme", config={"model_tier": "gpt-4"})
        yield service


async def events(service: Service) -> list[UsageEvent]:
    found, _ = await service.copilot.usage.list("acme")
    return list(reversed(found))


def charged(calls: list[dict]) -> list[tuple[str, int]]:
    return [(call["path"], call["input_tokens"]) for call in calls if call["charged"]]


async def test_ingest_and_search_have_a_row_with_the_vendors_tokens_and_their_price(
    hosted: Service, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    await hosted.copilot.ingest("acme", [POLICY])
    found = await hosted.copilot.search("acme", QUESTION)
    assert found.results
    calls = charged(provider.calls()[before:])
    rows = await events(hosted)
    assert [path for path, _ in calls] == [EMBEDDINGS, EMBEDDINGS]
    assert [row.input_tokens for row in rows] == [tokens for _, tokens in calls]
    for row in rows:
        assert (row.provider, row.model, row.state) == ("openai", MODEL, "settled")
        assert row.cost_micro_usd == max(1, round(row.input_tokens * 0.02))
    assert found.metadata.input_tokens == rows[1].input_tokens > 0
    assert found.metadata.cost_usd == rows[1].cost_micro_usd / 1_000_000


async def test_a_question_has_one_row_for_each_vendors_call(
    hosted: Service, provider: RunningProvider
) -> None:
    await hosted.copilot.ingest("acme", [POLICY])
    before = len(provider.calls())
    reply = await hosted.copilot.query("acme", QUESTION)
    calls = charged(provider.calls()[before:])
    rows = [row for row in await events(hosted) if row.operation == "query"]
    assert [path for path, _ in calls] == [EMBEDDINGS, CHAT]
    assert [(row.attempt, row.input_tokens) for row in rows] == [
        (1, calls[0][1]),
        (2, calls[1][1]),
    ]
    assert [row.outcome for row in rows] == ["ok", "answered"]
    assert reply.metadata.input_tokens == sum(tokens for _, tokens in calls)
    assert round(reply.metadata.cost_usd * 1e6) == sum(row.cost_micro_usd for row in rows)
    summary = await hosted.copilot.metrics("acme")
    assert (summary.total_queries, summary.successful_queries, summary.open_events) == (1, 1, 0)
    assert await hosted.tenants._database.call("acme", "SELECT * FROM verify_sums($1)") == []


async def test_the_same_content_again_calls_nobody_and_costs_nothing(
    hosted: Service, provider: RunningProvider
) -> None:
    await hosted.copilot.ingest("acme", [POLICY])
    before = len(provider.calls())
    await hosted.copilot.ingest("acme", [POLICY])
    assert len(provider.calls()) == before
    row = (await events(hosted))[-1]
    assert (row.provider, row.input_tokens, row.cost_micro_usd, row.state) == (
        "local", 0, 0, "settled",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "state", "estimated"),
    [("500", "settled", False), ("blackhole", "interrupted", True)],
)
async def test_an_embedder_that_fails_is_a_typed_failure_and_one_row(
    hosted: Service, provider: RunningProvider, mode: str, state: str, estimated: bool
) -> None:
    await hosted.copilot.ingest("acme", [POLICY])
    await hosted.config.update_tenant_config("acme", retrieval_mode="hybrid")
    provider.fault(mode, path=EMBEDDINGS)
    with pytest.raises((ModelUnavailable, DeadlineExceeded)):
        await hosted.copilot.search("acme", QUESTION)
    row = (await events(hosted))[-1]
    assert (row.state, row.estimated, row.cost_micro_usd) == (state, estimated, 0)
    provider.fault("normal")
    assert (await hosted.copilot.search("acme", QUESTION)).results


async def test_a_budget_that_does_not_carry_the_embedding_calls_nobody(
    hosted: Service, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    await hosted.config.update_tenant_config(
        "acme", resource_limits={"monthly_budget_usd": 0.000_001}
    )
    long = replace(POLICY, text=POLICY.text * 10)
    with pytest.raises(BudgetExhausted):
        await hosted.copilot.ingest("acme", [long])
    assert len(provider.calls()) == before
    assert await events(hosted) == []


async def test_what_was_embedded_before_a_refusal_is_charged_and_uses_no_rate(
    hosted: Service, provider: RunningProvider
) -> None:
    """Two at once find room for one: whoever stores last has embedded in vain."""
    await hosted.config.update_tenant_config("acme", resource_limits={"max_documents": 1})
    before = len(provider.calls())
    both = [replace(POLICY, document_id=name, text=f"{POLICY.text} {name}") for name in ("a", "b")]
    ended = await asyncio.gather(
        *(hosted.copilot.ingest("acme", [document]) for document in both), return_exceptions=True
    )
    assert [type(one) for one in ended if isinstance(one, BaseException)] == [LimitReached]
    (row,) = [event for event in await events(hosted) if event.outcome == "limit_reached"]
    calls = charged(provider.calls()[before:])
    assert len(calls) == 2
    assert (row.state, row.input_tokens) == ("settled", calls[0][1])
    assert row.cost_micro_usd > 0
