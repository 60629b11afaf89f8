"""The example tenants, asked everything that their file says they can answer, without a key."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest

from compliance_copilot import bootstrap
from compliance_copilot.core.vocabulary import Outcome, QueryReply
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import PROJECT_ROOT, Settings
from compliance_copilot.wiring import open_service

EXAMPLES = ("acme_corp", "beta_inc", "gamma_labs")
UNANSWERABLE = orjson.loads((PROJECT_ROOT / "benchmarks" / "questions.json").read_bytes())


@dataclass(frozen=True)
class Asked:
    tenant_id: str
    entry: dict
    reply: QueryReply

    @property
    def sections(self) -> set[str | None]:
        return {self.reply.sources[c.source].chunk.section for c in self.reply.citations}


@pytest.fixture
async def examples(settings: Settings, database_name: str) -> AsyncIterator[Service]:
    async with open_service(settings.model_copy(update={"load_examples": True})) as service:
        for tenant_id in EXAMPLES:
            unlimited = {"max_queries_per_hour": None, "requests_per_minute": None}
            service.config.update_tenant_config(tenant_id, resource_limits=unlimited)
        yield service


async def ask_all(service: Service) -> list[Asked]:
    data = orjson.loads((PROJECT_ROOT / "example_data.json").read_bytes())
    return [
        Asked(tenant_id, entry, await service.copilot.query(tenant_id, entry["query"]))
        for tenant_id, entries in data["sample_queries"].items()
        for entry in entries
    ]


async def test_every_quote_is_verbatim_and_27_of_30_name_the_right_section(
    examples: Service,
) -> None:
    asked = await ask_all(examples)
    assert len(asked) == 30
    quotes = 0
    for one in asked:
        for citation in one.reply.citations:
            chunk = one.reply.sources[citation.source].chunk
            text = await examples.copilot.documents.text(
                one.tenant_id, chunk.document_id, chunk.version
            )
            assert text[citation.start : citation.end] == citation.quote
            assert citation.verified
            quotes += 1
    assert quotes >= 30
    right = [one for one in asked if one.entry["section"] in one.sections]
    assert len(right) >= 27, [one.entry["query"] for one in asked if one not in right]


async def test_the_same_question_is_answered_from_each_tenants_own_policies(
    examples: Service,
) -> None:
    by_question: dict[str, list[Asked]] = {}
    for one in await ask_all(examples):
        if one.entry.get("shared"):
            by_question.setdefault(one.entry["query"], []).append(one)
    assert by_question
    for asked in by_question.values():
        assert len({one.reply.answer for one in asked}) == len(asked) == 3
        for one in asked:
            prefix = one.tenant_id.partition("_")[0]
            ids = {source.chunk.document_id for source in one.reply.sources}
            assert all(document_id.startswith(prefix) for document_id in ids)


@pytest.mark.parametrize(("kind", "share"), [("unrelated", 0.95), ("near_miss", 0.85)])
async def test_what_the_documents_do_not_say_is_not_answered(
    examples: Service, kind: str, share: float
) -> None:
    outcomes = [
        (await examples.copilot.query(tenant_id, question)).outcome
        for question in UNANSWERABLE[kind]
        for tenant_id in EXAMPLES
    ]
    assert outcomes.count(Outcome.NO_EVIDENCE) >= share * len(outcomes)


async def test_the_tenants_knob_moves_the_threshold(examples: Service) -> None:
    question = "Hackers demand money from us: do we pay a ransom?"
    assert (await examples.copilot.query("acme_corp", question)).outcome is Outcome.NO_EVIDENCE
    await examples.config.update_tenant_config("acme_corp", min_evidence=0.3)
    lenient = await examples.copilot.query("acme_corp", question)
    assert lenient.outcome is Outcome.ANSWERED
    assert "does not pay ransoms" in lenient.answer


async def test_the_first_start_loads_the_examples_once(
    examples: Service, settings: Settings
) -> None:
    data_dir = settings.data_dir
    keys = {p.name: p.read_text() for p in bootstrap.key_folder(data_dir).glob("*.key")}
    assert set(keys) == {"acme_corp.key", "beta_inc.key", "gamma_labs.key"}
    assert {p.stat().st_mode & 0o777 for p in bootstrap.key_folder(data_dir).iterdir()} == {0o600}
    async with open_service(settings.model_copy(update={"load_examples": True})) as again:
        found = await again.copilot.documents.list("acme_corp")
        assert {document.version for document in found} == {1}
    after = {p.name: p.read_text() for p in bootstrap.key_folder(data_dir).glob("*.key")}
    assert keys == after
