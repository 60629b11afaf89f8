"""A tenant's own model parts its questions and rewrites follow-ups: metered, and only advice."""

from collections.abc import AsyncIterator

import pytest

from compliance_copilot.core.vocabulary import DraftSentence, NewDocument, QueryReply, RetrievalMode
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.rag.advice import lines_of
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider

POLICY = (
    "# Backups\n\n## 1. Retention\n\nBackups of customer data are kept for 35 days.\n\n"
    "## 2. Tests\n\nThe service desk tests backups of customer data each quarter."
)
TWO_IN_ONE = "How long are backups kept plus who tests backups of customer data?"
PARTS = ["How long are backups kept?", "who tests backups of customer data?"]
FIRST, NEXT = "How long are backups of customer data kept?", "And who tests them?"


@pytest.fixture(params=["gpt-4", "claude"])
async def hosted(
    settings: Settings, provider: RunningProvider, request: pytest.FixtureRequest
) -> AsyncIterator[Service]:
    update = {
        **provider.openai_settings(),
        **provider.anthropic_settings(),
    }
    async with open_service(settings.model_copy(update=update)) as service:
        await make_customer(service, "acme", config={"model_tier": request.param})
        await service.copilot.ingest("acme", [NewDocument(POLICY, "backups")])
        yield service


async def ask(service: Service, text: str, **more: object) -> QueryReply:
    reply = await service.copilot.query("acme", text, **more)
    assert isinstance(reply, QueryReply)
    return reply


async def hosted_rows(service: Service) -> list[tuple[int, int, str]]:
    events, _ = await service.copilot.usage.list("acme")
    rows = [e for e in reversed(events) if e.operation == "query" and e.provider != "local"]
    assert all(row.state == "settled" and row.cost_micro_usd > 0 for row in rows)
    return [(row.input_tokens, row.output_tokens, row.outcome) for row in rows]


async def test_a_model_plans_the_parts_and_each_call_is_a_row(
    hosted: Service, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    agentic = {"retrieval_mode": RetrievalMode.AGENTIC}
    reply = await ask(hosted, TWO_IN_ONE, override_config=agentic)
    (searched,) = [s for s in reply.metadata.steps if s["action"] == "search_parts"]
    assert searched["queries"] == PARTS
    calls = provider.calls()[before:]
    assert len(calls) == 2
    rows = await hosted_rows(hosted)
    assert [row[:2] for row in rows] == [(c["input_tokens"], c["output_tokens"]) for c in calls]
    assert [row[2] for row in rows] == ["ok", reply.outcome.value]


async def test_a_search_asks_no_model(hosted: Service, provider: RunningProvider) -> None:
    before = len(provider.calls())
    agentic = {"retrieval_mode": RetrievalMode.AGENTIC}
    found = await hosted.copilot.search("acme", TWO_IN_ONE, override_config=agentic)
    assert found.results
    assert len(provider.calls()) == before


async def test_a_model_makes_a_follow_up_stand_alone_and_is_paid_for_it(
    hosted: Service, provider: RunningProvider
) -> None:
    call = Call(conversation_id="talk")
    assert (await ask(hosted, FIRST, call=call)).metadata.standalone_question is None
    before = len(provider.calls())
    reply = await ask(hosted, NEXT, call=call)
    meant = f"{NEXT.rstrip('?')}, as to {FIRST.rstrip('?')}?"
    assert reply.metadata.standalone_question == meant
    assert len(provider.calls()) == before + 2
    assert len(await hosted_rows(hosted)) == 3
    again = await ask(hosted, NEXT, call=Call(conversation_id="talk"))
    assert again.metadata.standalone_question != NEXT


@pytest.mark.parametrize("fault", ["500", "empty", "bad_json"])
async def test_a_model_without_advice_leaves_the_question_to_the_rules(
    hosted: Service, provider: RunningProvider, fault: str
) -> None:
    call = Call(conversation_id="talk")
    await ask(hosted, FIRST, call=call)
    provider.fault(fault, count=2 if fault == "500" else 1)  # a 500 is asked about once more
    reply = await ask(hosted, NEXT, call=call)
    provider.fault("normal")
    assert reply.metadata.standalone_question == "Who tests backups of customer data kept?"
    assert "service desk" in reply.answer


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        (["1. What is kept?", "2) Who tests it?"], ("What is kept?", "Who tests it?")),
        (["- What is kept?\n- Who?"], ("What is kept?", "Who?")),
        (["x" * 2_000], ()),
        (["???"], ()),
        ([], ()),
    ],
)
def test_only_lines_that_can_be_questions_are_taken(said: list[str], lines: tuple) -> None:
    assert lines_of([DraftSentence(text, ()) for text in said]) == lines
