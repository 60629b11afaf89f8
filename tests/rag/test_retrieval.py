"""Searching as a tenant does: filters, earlier instants, explanations, and odd questions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from compliance_copilot import narrowed
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import InvalidRequest, RetrievalUnavailable
from compliance_copilot.core.vocabulary import EffectiveConfig, NewDocument, RetrievalMode, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.filter_language import EVERYTHING, Narrowing
from compliance_copilot.rag.linked import LinkedChunks
from compliance_copilot.rag.retrieval import RetrievalRequest, Retriever
from compliance_copilot.storage.database import open_database
from tests.conftest import Server, make_customer

ACME = TenantId("acme")
OLD = "# Backups\n\nBackups are kept on punched cards for thirty days."
NEW = "# Backups\n\nBackups are encrypted and kept for ninety days."
QUESTION = "How long are backups kept?"


@pytest.fixture
async def acme(service: Service) -> Service:
    await make_customer(service, "acme", config={"retrieval_mode": "hybrid"})
    await service.copilot.ingest(
        "acme",
        [
            NewDocument(OLD, "backups", metadata={"kind": "policy", "rank": 1}),
            NewDocument("# Visitors\n\nVisitors sign the register.", "visitors",
                        metadata={"kind": "rule", "rank": 2}),
        ],
    )  # fmt: skip
    return service


async def ids(
    service: Service, question: str = QUESTION, narrowing: Narrowing = EVERYTHING
) -> list[str]:
    found = await service.copilot.search("acme", question, narrowing=narrowing)
    return [scored.chunk.document_id for scored in found.results]


async def test_a_filter_keeps_what_it_names_and_an_unknown_field_finds_nothing(
    acme: Service,
) -> None:
    assert set(await ids(acme)) == {"backups", "visitors"}
    assert await ids(acme, narrowing=narrowed({"kind": "rule"})) == ["visitors"]
    assert await ids(acme, narrowing=narrowed({"not": {"rank": {"gte": 2}}})) == ["backups"]
    assert await ids(acme, narrowing=narrowed({"document_id": {"nin": ["backups"]}})) == [
        "visitors"
    ]
    assert await ids(acme, narrowing=narrowed({"created_at": {"lt": "2020-01-01T00:00:00Z"}})) == []
    assert await ids(acme, narrowing=narrowed({"colour": {"ne": "red"}})) == []
    reply: Any = await acme.copilot.query("acme", QUESTION, narrowing=narrowed({"kind": "rule"}))
    assert {scored.chunk.document_id for scored in reply.sources} == {"visitors"}


async def test_an_earlier_instant_is_answered_from_the_versions_in_force_then(
    acme: Service,
) -> None:
    before = datetime.now(UTC)
    await acme.copilot.ingest("acme", [NewDocument(NEW, "backups")])

    async def first(at: datetime | None) -> str:
        found = await acme.copilot.search(
            "acme", "punched cards", narrowing=narrowed(as_of=at), override_config={"top_k": 1}
        )
        return found.results[0].chunk.text if found.results else ""

    assert "punched cards" in await first(before)
    assert "punched cards" not in await first(None)
    assert await first(before - timedelta(days=1)) == ""
    then = await acme.copilot.search(
        "acme", "punched cards", narrowing=narrowed(as_of=before), explain=True
    )
    # Its words are counted as they were then, though no version in force now has them.
    assert "punch card" in then.explained[0]["matched_terms"]
    assert then.explained[0]["path"] == "sql"


async def test_an_explanation_has_the_parts_the_words_the_filter_and_the_path(
    acme: Service,
) -> None:
    plain = await acme.copilot.search("acme", QUESTION)
    assert not plain.explained
    await acme.copilot._rooms.retriever.index.settled()
    narrowing = narrowed({"rank": {"lt": 2}})
    told = await acme.copilot.search("acme", QUESTION, narrowing=narrowing, explain=True)
    (parts,) = told.explained
    assert parts["path"] == "hot"
    assert parts["matched_terms"] == ["backup", "backup kept", "kept"]
    assert parts["filters"] == {"rank": {"lt": 2}}
    assert parts["ranker"] == told.results[0].score
    assert parts["dense"] == told.results[0].dense
    assert parts["bm25"] == told.results[0].sparse
    basic = await acme.copilot.search(
        "acme", QUESTION, explain=True, override_config={"retrieval_mode": "basic"}
    )
    assert basic.explained[0]["ranker"] is None
    assert basic.explained[0]["matched_terms"] == []


async def test_no_documents_yet_is_an_empty_result(service: Service) -> None:
    await make_customer(service, "acme", config={"retrieval_mode": "hybrid"})
    for _ in range(2):
        assert await ids(service) == []
        await service.copilot._rooms.retriever.index.settled()


async def test_odd_questions_are_answered_alike_on_both_paths(acme: Service) -> None:
    odd = ["xyzzy plugh", "the of and", "?!", "backups " * 990, "日本語", "' OR 1=1 --"]
    now = datetime.now(UTC)
    cold = [await acme.copilot.search("acme", q, narrowing=narrowed(as_of=now)) for q in odd]
    await ids(acme)
    await acme.copilot._rooms.retriever.index.settled()
    hot = [await acme.copilot.search("acme", q, explain=True) for q in odd]
    assert {found.explained[0]["path"] for found in hot} == {"hot"}
    for one, other in zip(cold, hot, strict=True):
        assert repr(one.results) == repr(other.results)
        assert one.results  # the dense list knows no words


async def test_ten_thousand_words_are_refused_at_the_door_and_bearable_behind_it(
    acme: Service,
) -> None:
    question = " ".join(f"word{n} backups" for n in range(5_000))
    with pytest.raises(InvalidRequest) as refused:
        await acme.copilot.search("acme", question)
    assert refused.value.facts["field"] == "query"
    retriever = acme.copilot._rooms.retriever
    config = EffectiveConfig(retrieval_mode=RetrievalMode.HYBRID)
    for _ in range(2):
        request = RetrievalRequest(question, config, 1, Deadline.after(60))
        found = await retriever.retrieve(ACME, request)
        assert found.sources[0].chunk.document_id == "backups"
        await retriever.index.settled()


async def test_a_store_that_is_down_is_an_error_and_never_an_empty_list(
    acme: Service, server: Server, database_name: str
) -> None:
    async with open_database(server.serving_dsn(database_name)) as database:
        up = Retriever(PgvectorIndex(database), WordllamaEmbedder(), LinkedChunks(database))
        request = RetrievalRequest(QUESTION, EffectiveConfig(), 1, Deadline.after(60))
        assert (await up.retrieve(ACME, request)).sources
    with pytest.raises(RetrievalUnavailable):
        await up.retrieve(ACME, request)
