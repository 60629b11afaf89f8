"""The agentic mode goes on where one search ends, within its bounds and its tenant's walls."""

from collections.abc import Sequence

import asyncpg
import pytest

from compliance_copilot.core.vocabulary import NewDocument, QueryReply, RetrievalMode
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.investigating import missing_words
from tests.conftest import make_customer

FILLER = [
    f"## {n}. Office matters {n}\n\nThe office on floor {n} is cleaned and aired every evening."
    for n in range(20, 60)
]
HANDBOOK = "\n\n".join(
    [
        "# Handbook",
        "## 3. Lost laptops\n\nA lost laptop is reported at once. What follows is laid down in "
        "section 7.4.",
        *FILLER[:20],
        "## 7.4 Wiping\n\nThe service desk erases the disk from afar within two hours.",
        *FILLER[20:],
    ]
)
LEDGER = (
    "SELECT attempt, outcome, provider, final FROM usage_events WHERE operation = 'query'"
    " ORDER BY attempt"
)
QUESTION = "What follows when a laptop is lost?"


@pytest.fixture
async def acme(service: Service) -> Service:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [NewDocument(HANDBOOK, "handbook")])
    return service


async def sections(service: Service, mode: str, question: str = QUESTION, **more: object) -> list:
    override = {"retrieval_mode": RetrievalMode(mode), "top_k": 4, **more}
    reply = await service.copilot.search("acme", question, override_config=override)
    return [source.chunk.section for source in reply.results]


async def actions(service: Service, question: str, **more: object) -> Sequence[str]:
    override = {"retrieval_mode": RetrievalMode.AGENTIC, **more}
    reply = await service.copilot.search("acme", question, override_config=override)
    assert [step["step"] for step in reply.metadata.steps] == list(
        range(1, len(reply.metadata.steps) + 1)
    )
    return [step["action"] for step in reply.metadata.steps]


async def test_a_section_that_is_only_referred_to_becomes_a_candidate(acme: Service) -> None:
    override = {"retrieval_mode": RetrievalMode.AGENTIC, "top_k": 100}
    reply = await acme.copilot.search("acme", QUESTION, override_config=override)
    (followed,) = [s for s in reply.metadata.steps if s["action"] == "follow_references"]
    assert followed["references"] == ["section 7.4"]
    assert "7.4 Wiping" in [source.chunk.section for source in reply.results]


async def test_parts_are_searched_one_by_one_and_one_question_is_not_parted(acme: Service) -> None:
    several = "Who cleans the office on floor 21, and within what time is a disk erased?"
    assert "search_parts" in await actions(acme, several)
    assert "search_parts" not in await actions(acme, "Within what time is a disk erased?")


@pytest.mark.parametrize("most", [1, 2])
async def test_no_more_steps_are_taken_than_are_allowed(acme: Service, most: int) -> None:
    await acme.config.update_tenant_config("acme", max_steps=most)
    assert len(await actions(acme, QUESTION)) == most
    await acme.config.update_tenant_config("acme", max_steps=4)
    assert len(await actions(acme, QUESTION)) > most


async def test_every_step_is_a_row_of_the_ledger_and_the_last_row_is_the_answer(
    acme: Service, owner: asyncpg.Connection
) -> None:
    override = {"retrieval_mode": RetrievalMode.AGENTIC}
    reply = await acme.copilot.query("acme", QUESTION, override_config=override)
    assert isinstance(reply, QueryReply)
    rows = await owner.fetch(LEDGER)
    told = [step["action"] for step in reply.metadata.steps]
    assert [row["outcome"] for row in rows] == [*told, reply.outcome.value]
    assert {row["provider"] for row in rows} == {"local"}
    assert [row["final"] for row in rows] == [False] * len(told) + [True]
    assert (await acme.copilot.metrics("acme")).total_queries == 1


async def test_the_steps_keep_to_the_tenant_and_find_nothing_of_another(acme: Service) -> None:
    await make_customer(acme, "beta")
    foreign = "## 7.4 Wiping\n\nBeta wipes nothing and reports a lost laptop to nobody."
    await acme.copilot.ingest("beta", [NewDocument(foreign, "beta-handbook")])
    override = {"retrieval_mode": RetrievalMode.AGENTIC, "top_k": 100}
    for tenant, own in (("acme", "handbook"), ("beta", "beta-handbook")):
        reply = await acme.copilot.search(tenant, QUESTION, override_config=override)
        assert {source.chunk.document_id for source in reply.results} == {own}


async def test_an_empty_corpus_gives_no_sources_and_one_step(service: Service) -> None:
    await make_customer(service, "acme")
    assert await actions(service, QUESTION) == ["search"]
    assert await sections(service, "agentic") == []


@pytest.mark.parametrize(
    ("part", "text", "missing"),
    [
        ("who erases the disk", "The disk is erased by the desk.", ""),
        ("who stores bicycles in cellars", "The disk is erased.", "stores bicycles cellars"),
    ],
)
def test_the_words_that_no_source_has_are_known(part: str, text: str, missing: str) -> None:
    assert missing_words(part, [text]) == missing
