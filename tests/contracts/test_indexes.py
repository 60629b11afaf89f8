"""What every index promises: the same questions find the same chunks, whoever nominates them."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.adapters.pinecone_control import ensure_index
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, RetrievalUnavailable
from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.engines import make_pinecone_store
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag import analysis
from compliance_copilot.rag.filters import Comparison, Field, Filter, Operator, Place
from compliance_copilot.rag.ports import HybridQuery, RankedLists, VectorIndex
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider, running_provider

TOPICS = ("backups", "passwords", "visitors", "invoices", "travel", "encryption")
DOCUMENTS = [
    NewDocument(
        "\n\n".join(
            f"## {n}. {topic.title()}\n\nRule {n} on {topic}: keep {topic} for {n + place} days, "
            f"and report each exception to owner {n % 3}."
            for n in range(1, 6)
        ),
        f"{topic}-policy",
        metadata={"topic": topic, "rank": place, "public": place % 2 == 0, "tags": [topic, "all"]},
    )
    for place, topic in enumerate(TOPICS)
]
QUESTIONS = (
    "How long are backups kept?",
    "Which exception is reported to owner 2?",
    "rule 4 on travel",
    "zebra",
)
FILTERS: tuple[Filter, ...] = (
    Comparison(Field(Place.METADATA, "topic"), Operator.EQ, ("travel",)),
    Comparison(Field(Place.METADATA, "rank"), Operator.GTE, (3,)),
    Comparison(Field(Place.METADATA, "tags"), Operator.NIN, ("travel", "visitors")),
    Comparison(Field(Place.METADATA, "public"), Operator.EQ, (True,)),
    Comparison(Field(Place.DOCUMENT), Operator.IN, ("backups-policy", "invoices-policy")),
    Comparison(Field(Place.METADATA, "unknown"), Operator.NE, ("x",)),
)
SECRET = "pc-test-0123456789"


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    with running_provider(tmp_path_factory.mktemp("vectors"), module="vectors") as running:
        yield running


async def hosted_settings(settings: Settings, vendor: RunningProvider) -> Settings:
    """Return settings of a Pinecone deployment whose index has just been made."""
    vendor.fault("normal")
    chosen = settings.model_copy(
        update={
            "vector_store": "pinecone",
            "pinecone_api_key": SecretStr(SECRET),
            "pinecone_index_name": f"test-{uuid4().hex[:12]}",
            "pinecone_controller_host": vendor.url,
        }
    )
    store = make_pinecone_store(chosen)
    await ensure_index(store, dimension=256, region=None, deadline=Deadline.after(20))
    await store.aclose()
    return chosen


@dataclass
class Open:
    """A service on one of the stores, with a tenant that has documents."""

    service: Service
    index: VectorIndex
    kind: str


@pytest.fixture(params=["pgvector", "pinecone"])
async def opened(
    request: pytest.FixtureRequest, settings: Settings, vendor: RunningProvider
) -> AsyncIterator[Open]:
    chosen = settings
    if request.param == "pinecone":
        chosen = await hosted_settings(settings, vendor)
    async with open_service(chosen) as service:
        await make_customer(service, "acme")
        await service.copilot.ingest("acme", DOCUMENTS)
        yield Open(service, service.copilot._rooms.retriever.index, request.param)


async def asked(opened: Open, question: str, filters: Filter | None = None) -> RankedLists:
    retriever = opened.service.copilot._rooms.retriever
    deadline = Deadline.after(20)
    embedded = await retriever.embedder.embed([question], deadline=deadline)
    terms = analysis.query_terms(question, ("en", "de"))
    query = HybridQuery(embedded.vectors[0], terms, embedder=retriever.embedder.name)
    query = replace(query, filters=filters)
    return await opened.index.search("acme", query, limit=8, deadline=deadline)


def told(lists: RankedLists) -> list[object]:
    """Return both lists by document and place: ids differ from one database to the next."""
    return [
        [(lists.chunks[i].document_id, lists.chunks[i].ordinal, score) for i, score in part]
        for part in (lists.dense, lists.sparse)
    ]


async def test_filters_and_words_mean_what_they_say(opened: Open) -> None:
    everything = told(await asked(opened, QUESTIONS[0]))
    assert len(everything[0]) == 8
    assert everything[1], "words were found"
    travel = told(await asked(opened, QUESTIONS[0], FILTERS[0]))
    assert {name for name, *_ in travel[0]} == {"travel-policy"}
    assert told(await asked(opened, QUESTIONS[0], FILTERS[-1])) == [[], []], "an unknown field"
    unknown_word = told(await asked(opened, "zebra"))
    assert unknown_word[0]
    assert unknown_word[1] == []


async def test_both_stores_find_the_same_ids_with_the_same_scores(
    settings: Settings, vendor: RunningProvider
) -> None:
    async with open_service(await hosted_settings(settings, vendor)) as service:
        await make_customer(service, "acme")
        await service.copilot.ingest("acme", DOCUMENTS)
        changed = replace(DOCUMENTS[0], text=DOCUMENTS[0].text + "\n\nRule 6: test restores.")
        await service.copilot.ingest("acme", [changed])
        database = service.tenants._database
        hosted = Open(service, service.copilot._rooms.retriever.index, "pinecone")
        own = Open(service, PgvectorIndex(database), "pgvector")
        for question in QUESTIONS:
            for filters in (None, *FILTERS):
                there = await asked(hosted, question, filters)
                here = await asked(own, question, filters)
                assert (there.path, here.path) == ("pinecone", "sql")
                assert list(there.dense) == list(here.dense), (question, filters)
                assert list(there.sparse) == list(here.sparse), (question, filters)
        assert told(there) != told(await asked(hosted, QUESTIONS[0])), "questions differ"


async def test_an_empty_corpus_is_an_empty_result_and_no_error(opened: Open) -> None:
    await make_customer(opened.service, "nobody")
    reply = await opened.service.copilot.search("nobody", QUESTIONS[0])
    assert list(reply.results) == []


async def test_only_the_version_in_force_is_found(opened: Open) -> None:
    changed = replace(DOCUMENTS[0], text=DOCUMENTS[0].text.replace("backups", "restores"))
    await opened.service.copilot.ingest("acme", [changed])
    lists = await asked(opened, "backups restores")
    of_document = [c for c in lists.chunks.values() if c.document_id == "backups-policy"]
    assert {chunk.version for chunk in of_document} == {2}


async def test_a_deleted_document_is_not_found_and_the_others_are(opened: Open) -> None:
    await opened.service.copilot.documents.delete("acme", "travel-policy")
    lists = await asked(opened, "rule 4 on travel")
    assert lists.chunks
    assert "travel-policy" not in {chunk.document_id for chunk in lists.chunks.values()}


async def test_one_tenants_question_finds_nothing_of_another(opened: Open) -> None:
    await make_customer(opened.service, "beta")
    secret = NewDocument("The word of beta is xylophone.", "beta-only")
    await opened.service.copilot.ingest("beta", [secret])
    mine = await opened.service.copilot.search("beta", "xylophone")
    assert [source.chunk.document_id for source in mine.results] == ["beta-only"]
    theirs = await asked(opened, "xylophone")
    assert "beta-only" not in {chunk.document_id for chunk in theirs.chunks.values()}


@pytest.mark.parametrize("mode", ["503", "401", "blackhole"])
async def test_an_outage_is_named_and_never_an_empty_list(
    settings: Settings, vendor: RunningProvider, mode: str
) -> None:
    chosen = await hosted_settings(settings, vendor)
    async with open_service(chosen) as service:
        await make_customer(service, "acme")
        await service.copilot.ingest("acme", DOCUMENTS[:1])
        vendor.fault(mode, path="/query")
        here = Open(service, service.copilot._rooms.retriever.index, "pinecone")
        expected = DeadlineExceeded if mode == "blackhole" else RetrievalUnavailable
        with pytest.raises(expected):
            await asked_within(here, 2 if mode == "blackhole" else 30)
        vendor.fault("normal")
        assert (await asked(here, QUESTIONS[0])).chunks


async def asked_within(opened: Open, seconds: float) -> RankedLists:
    retriever = opened.service.copilot._rooms.retriever
    embedded = await retriever.embedder.embed(["backups"], deadline=Deadline.after(5))
    query = HybridQuery(embedded.vectors[0], {}, embedder=retriever.embedder.name)
    return await opened.index.search("acme", query, limit=8, deadline=Deadline.after(seconds))


async def test_nothing_that_is_sent_names_a_tenant_and_the_key_stays_out_of_bodies(
    settings: Settings, vendor: RunningProvider
) -> None:
    chosen = await hosted_settings(settings, vendor)
    before = len(vendor.calls())
    async with open_service(chosen) as service:
        await make_customer(service, "tenant-of-one-name")
        await service.copilot.ingest("tenant-of-one-name", DOCUMENTS[:2])
        assert (await service.copilot.search("tenant-of-one-name", QUESTIONS[0])).results
    calls = vendor.calls()[before:]
    assert {call["path"].rpartition("/")[2] for call in calls} >= {"upsert", "query"}
    sent = json.dumps(calls)
    assert "tenant-of-one-name" not in sent
    assert "baggage" not in sent
    assert SECRET not in sent
    assert "Rule 1 on backups" not in sent, "texts stay here"
