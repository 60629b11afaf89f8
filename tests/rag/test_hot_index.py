"""Tenants in use: the same bytes as the SQL search, never an old version, files that are safe."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.offline import OfflineIndex
from compliance_copilot.adapters.corpus_files import CorpusFiles
from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import EffectiveConfig, NewDocument, RetrievalMode, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag import analysis
from compliance_copilot.rag.filters import Comparison, Field, Filter, Operator, Place
from compliance_copilot.rag.linked import LinkedChunks
from compliance_copilot.rag.ports import HybridQuery, RankedLists
from compliance_copilot.rag.retrieval import RetrievalRequest, Retriever
from compliance_copilot.storage.database import Database
from tests.conftest import make_customer

ACME = TenantId("acme")
SUBJECTS = ("passwords", "backups", "laptops", "visitors", "invoices", "suppliers", "incidents")
WORDS = (*SUBJECTS, "owner", "days", "approves", "tested", "month", "xyzzy", "checks", "rules")
ROOM = 50_000_000
EMBEDDER = WordllamaEmbedder()


@dataclass
class Both:
    cold: PgvectorIndex
    hot: HotIndex
    files: CorpusFiles
    database: Database

    async def version(self) -> int:
        async with self.database.transaction(ACME) as connection:
            found: int = await connection.fetchval("SELECT version FROM corpora")
            return found

    async def query(self, question: str, filters: Filter | None = None) -> HybridQuery:
        embedded = await EMBEDDER.embed([question], deadline=Deadline.after(60))
        terms = analysis.query_terms(question, ("en", "de"))
        version = await self.version()
        return HybridQuery(embedded.vectors[0], terms, version, filters=filters)

    async def search(self, which: str, question: str, filters: Filter | None = None) -> RankedLists:
        index = self.cold if which == "cold" else self.hot
        query = await self.query(question, filters)
        return await index.search(ACME, query, limit=20, deadline=Deadline.after(60))

    async def warm(self) -> None:
        await self.search("hot", "warm it")
        await self.hot.settled()
        assert (await self.search("hot", "warm it")).path == "hot"

    async def sources(self, which: str, question: str, mode: RetrievalMode) -> list[Any]:
        index = self.cold if which == "cold" else self.hot
        retriever = Retriever(index, EMBEDDER, LinkedChunks(self.database))
        config = EffectiveConfig(retrieval_mode=mode, top_k=10)
        found = await retriever.retrieve(
            ACME,
            RetrievalRequest(question, config, await self.version(), Deadline.after(60)),
        )
        return list(found.sources)


@pytest.fixture
async def both(service: Service, database: Database, tmp_path: Path) -> AsyncIterator[Both]:
    await make_customer(service, "acme")
    documents = [
        NewDocument(
            f"# Rules for {subject}\n\n" + "\n\n".join(
                f"## {n}. {other}\n\nThe owner of {subject} checks {other} every {n} days and "
                f"approves {n * 7} exceptions; {subject} and {other} are tested in month {n}."
                for n, other in enumerate(SUBJECTS, start=1)
            ),
            subject,
            metadata={"kind": subject[0], "rank": number},
        )
        for number, subject in enumerate(SUBJECTS)
    ]  # fmt: skip
    # Twins: equal scores, so only the order of ids can part them.
    documents += [NewDocument(documents[0].text + f"\n\n{n}", f"twin-{n}") for n in range(4)]
    await service.copilot.ingest("acme", documents)
    cold = PgvectorIndex(database)
    files = CorpusFiles(tmp_path / "hot", ROOM)
    files.prepare()
    hot = HotIndex(cold, database, files)
    yield Both(cold, hot, files, database)
    await hot.close()


async def test_both_paths_give_the_same_bytes(both: Both) -> None:
    await both.warm()
    numbers = random.Random(5)  # noqa: S311 - repeatable
    for _ in range(60):
        question = " ".join(numbers.choices(WORDS, k=numbers.randint(1, 9)))
        for mode in (RetrievalMode.BASIC, RetrievalMode.HYBRID):
            cold = await both.sources("cold", question, mode)
            assert repr(cold) == repr(await both.sources("hot", question, mode)), question


async def test_what_only_one_list_nominates_is_scored_alike(both: Both) -> None:
    await both.warm()
    for question in ("How often are backups tested?", "7", "xyzzy", "visitors " * 300):
        cold, hot = await both.search("cold", question), await both.search("hot", question)
        assert repr((cold.dense, cold.sparse)) == repr((hot.dense, hot.sparse))
        assert cold.statistics == hot.statistics
        assert dict(cold.chunks) == {i: hot.chunks[i] for i in hot.chunks}


async def test_what_is_measured_offline_is_what_is_served(both: Both) -> None:
    query = await both.query("Who approves invoices of suppliers?")
    served = await both.cold.search(ACME, query, limit=200, deadline=Deadline.after(60))
    chunks = [served.chunks[chunk_id] for chunk_id in sorted(served.chunks)]
    assert served.statistics is not None
    pinned = served.statistics.average_length
    index = await asyncio.to_thread(
        lambda: OfflineIndex(chunks, ["en"] * len(chunks), average_length=pinned)
    )
    measured = index.search(query.dense, query.terms)
    assert measured.statistics == served.statistics
    assert repr(measured.dense) == repr(served.dense[:100])
    assert repr(measured.sparse) == repr(served.sparse[:100])


async def test_chunks_named_by_another_are_scored_as_the_search_scores_them(both: Both) -> None:
    await both.warm()
    query = await both.query("Who approves invoices of suppliers?")
    whole = await both.cold.search(ACME, query, limit=20, deadline=Deadline.after(60))
    some = [chunk_id for chunk_id, _ in whole.dense[3:8]]
    for index in (both.cold, both.hot):
        found = await index.score(ACME, query, some, limit=20, deadline=Deadline.after(60))
        assert repr(found.dense) == repr(whole.dense[3:8])


async def test_filters_hide_the_same_chunks_on_both_paths(both: Both) -> None:
    await both.warm()
    rank = Field(Place.METADATA, "rank")
    for filters in (
        Comparison(rank, Operator.GTE, (3,)),
        Comparison(Field(Place.DOCUMENT), Operator.IN, ("backups", "nobody")),
        Comparison(Field(Place.METADATA, "unheard"), Operator.NE, ("x",)),
    ):
        cold = await both.search("cold", "checks every month", filters)
        hot = await both.search("hot", "checks every month", filters)
        assert hot.path == "hot"
        assert repr((cold.dense, cold.sparse)) == repr((hot.dense, hot.sparse))
    assert not cold.dense
    found = await both.search("hot", "days", Comparison(rank, Operator.EQ, (1.0,)))
    assert {c.document_id for c in found.chunks.values()} == {"backups"}


async def test_a_new_version_of_the_corpus_is_never_answered_from_memory(
    both: Both, service: Service
) -> None:
    await both.warm()
    text = "# Drones\n\nDrones need the consent of the safety officer."
    await service.copilot.ingest("acme", [NewDocument(text, "drones")])
    found = await both.search("hot", "Who consents to drones?")
    assert "drones" in {chunk.document_id for chunk in found.chunks.values()}
    await both.hot.settled()
    await service.copilot.documents.delete("acme", "drones")
    found = await both.search("hot", "Who consents to drones?")
    assert "drones" not in {chunk.document_id for chunk in found.chunks.values()}


async def test_files_are_bounded_and_the_longest_unused_goes_first(
    both: Both, service: Service
) -> None:
    await both.warm()
    one = both.files.nbytes()
    small = CorpusFiles(both.files.folder, int(one * 1.5))
    index = HotIndex(both.cold, both.database, small)
    for tenant_id in ("beta", "gamma"):
        await make_customer(service, tenant_id)
        text = "\n\n".join(f"## {n}\n\nRule {n} of {tenant_id}." for n in range(60))
        await service.copilot.ingest(tenant_id, [NewDocument(text, "rules")])
    query = await both.query("x")
    for tenant_id in ("acme", "beta", "gamma"):
        asked = HybridQuery(query.dense, {}, query.corpus_version)
        await index.search(TenantId(tenant_id), asked, limit=5, deadline=Deadline.after(60))
        await index.settled()
        assert small.nbytes() <= one * 1.5
    assert list(small.folder.glob("gamma/*.corpus"))
    assert not list(small.folder.glob("acme/*.corpus"))
    await index.close()


async def test_an_evicted_corpus_gives_the_same_bytes_as_before(both: Both) -> None:
    await both.warm()
    question = "Who checks suppliers every month?"
    before = await both.sources("hot", question, RetrievalMode.HYBRID)
    both.files.drop(ACME)
    other = HotIndex(both.cold, both.database, CorpusFiles(both.files.folder, 1000))
    evicted = Both(both.cold, other, both.files, both.database)
    for _ in range(3):
        after = await evicted.sources("hot", question, RetrievalMode.HYBRID)
        await other.settled()
        assert other.mapped == 0
        assert repr(before) == repr(after)
    await other.close()


async def test_workers_share_one_file_that_only_its_owner_can_read(both: Both) -> None:
    await both.warm()
    (path,) = both.files.folder.glob("acme/*.corpus")
    assert path.stat().st_mode & 0o777 == 0o600
    assert both.files.folder.stat().st_mode & 0o777 == 0o700
    made = path.stat().st_ino
    second = HotIndex(both.cold, both.database, both.files)
    other = Both(both.cold, second, both.files, both.database)
    await other.warm()
    assert [p.stat().st_ino for p in both.files.folder.glob("acme/*.corpus")] == [made]
    await second.close()


@pytest.mark.parametrize("fault", ["cut", "flipped", "empty", "foreign"])
async def test_a_broken_file_is_ignored_and_made_again(both: Both, fault: str) -> None:
    await both.warm()
    (path,) = both.files.folder.glob("acme/*.corpus")
    whole = bytearray(path.read_bytes())
    if fault == "flipped":
        whole[len(whole) // 2] ^= 1
    broken = {"cut": whole[:-7], "empty": b"", "foreign": b"\0" * 500}.get(fault, whole)
    path.write_bytes(broken)
    second = HotIndex(both.cold, both.database, both.files)
    other = Both(both.cold, second, both.files, both.database)
    await other.warm()
    assert repr(await other.sources("hot", "backups", RetrievalMode.HYBRID)) == repr(
        await other.sources("cold", "backups", RetrievalMode.HYBRID)
    )
    await second.close()


async def test_a_version_number_counted_anew_is_another_corpus(both: Both, owner: Any) -> None:
    await both.warm()
    await owner.execute("UPDATE corpora SET text_bytes = text_bytes WHERE tenant_id = 'acme'")
    async with both.database.transaction(ACME) as connection:
        stamp = await connection.fetchval("SELECT stamp FROM corpus_stamp('acme')")
    assert both.files.read(ACME, await both.version(), stamp) is None


async def test_forgetting_a_tenant_leaves_no_file_and_no_answer_from_it(both: Both) -> None:
    await both.warm()
    assert await both.hot.forget(ACME) == 1
    assert not list(both.files.folder.glob("acme/*.corpus"))
    assert both.hot.mapped == 0


async def test_leftovers_of_a_crash_are_cleaned_at_the_start(both: Both) -> None:
    await both.warm()
    leftover = both.files.folder / "acme" / ".half.new"
    leftover.write_bytes(b"half")
    both.files.prepare()
    assert leftover.exists()  # somebody may be writing it now
    os.utime(leftover, (1, 1))
    both.files.prepare()
    assert not leftover.exists()
    assert list(both.files.folder.glob("acme/*.corpus"))


async def test_what_is_not_in_force_is_in_neither_path(both: Both, owner: Any) -> None:
    await owner.execute(
        "UPDATE chunk_vectors v SET effective_from = '2050-01-01' FROM chunks c"
        " WHERE c.id = v.chunk_id AND c.document_id = 'laptops'"
    )
    await both.warm()
    for which in ("cold", "hot"):
        found = await both.search(which, "laptops")
        assert found.path == ("sql" if which == "cold" else "hot")
        seen = {found.chunks[chunk_id].document_id for chunk_id, _ in found.dense}
        assert seen
        assert "laptops" not in seen
