"""The index in memory gives what the SQL search gives, and never an old version's answer."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag import analysis
from compliance_copilot.rag.ports import HybridQuery, RankedLists
from compliance_copilot.storage.database import Database
from tests.conftest import make_customer

ACME = TenantId("acme")
SUBJECTS = ("passwords", "backups", "laptops", "visitors", "invoices", "suppliers", "incidents")
QUESTIONS = (
    "How often are backups tested?",
    "Who approves invoices of suppliers?",
    "May visitors bring laptops?",
    "xyzzy",
    "7",
)


@dataclass
class Both:
    cold: PgvectorIndex
    hot: HotIndex
    database: Database

    async def version(self) -> int:
        async with self.database.transaction(ACME) as connection:
            found: int = await connection.fetchval("SELECT version FROM corpora")
            return found

    async def search(self, which: str, question: str) -> RankedLists:
        embedded = await WordllamaEmbedder().embed([question], deadline=Deadline.after(5))
        terms = analysis.query_terms(question, ("en", "de"))
        query = HybridQuery(embedded.vectors[0], terms, await self.version())
        index = self.cold if which == "cold" else self.hot
        return await index.search(ACME, query, limit=20, deadline=Deadline.after(5))


@pytest.fixture
async def both(service: Service, database: Database) -> AsyncIterator[Both]:
    await make_customer(service, "acme")
    documents = [
        NewDocument(
            f"# Rules for {subject}\n\n" + "\n\n".join(
                f"## {n}. {other}\n\nThe owner of {subject} checks {other} every {n} days and "
                f"approves {n * 7} exceptions; {subject} and {other} are tested in month {n}."
                for n, other in enumerate(SUBJECTS, start=1)
            ),
            subject,
        )
        for subject in SUBJECTS
    ]  # fmt: skip
    await service.copilot.ingest("acme", documents)
    cold = PgvectorIndex(database)
    hot = HotIndex(cold, database, max_bytes=50_000_000)
    yield Both(cold, hot, database)
    await hot.close()


async def test_hot_and_cold_give_the_same_lists_and_the_same_evidence(both: Both) -> None:
    await both.search("hot", "warm it")
    await both.hot.settled()
    assert both.hot.nbytes > 0
    for question in QUESTIONS:
        cold, hot = await both.search("cold", question), await both.search("hot", question)
        for mine, theirs in ((hot.dense, cold.dense), (hot.sparse, cold.sparse)):
            assert [score for _, score in mine] == pytest.approx(
                [score for _, score in theirs], abs=1e-4
            )
            distinct = len({round(score, 4) for _, score in theirs}) == len(theirs)
            if distinct:
                assert [chunk_id for chunk_id, _ in mine] == [chunk_id for chunk_id, _ in theirs]
        assert hot.statistics == cold.statistics
        if cold.counts is None:
            assert hot.counts is None
            continue
        for chunk_id in set(hot.chunks) & set(cold.chunks):
            assert hot.chunks[chunk_id] == cold.chunks[chunk_id]
            mine = dict(
                zip(
                    hot.counts.terms, hot.counts.frequencies[hot.counts.rows[chunk_id]], strict=True
                )
            )
            theirs = dict(
                zip(
                    cold.counts.terms,
                    cold.counts.frequencies[cold.counts.rows[chunk_id]],
                    strict=True,
                )
            )
            assert mine == theirs


async def test_a_new_version_of_the_corpus_is_never_answered_from_memory(
    both: Both, service: Service
) -> None:
    await both.search("hot", "warm it")
    await both.hot.settled()
    text = "# Drones\n\nDrones need the consent of the safety officer."
    await service.copilot.ingest("acme", [NewDocument(text, "drones")])
    found = await both.search("hot", "Who consents to drones?")
    assert "drones" in {chunk.document_id for chunk in found.chunks.values()}
    await both.hot.settled()
    await service.copilot.documents.delete("acme", "drones")
    found = await both.search("hot", "Who consents to drones?")
    assert "drones" not in {chunk.document_id for chunk in found.chunks.values()}


async def test_memory_is_bounded_and_the_longest_unused_goes_first(
    both: Both, service: Service
) -> None:
    await both.search("hot", "warm it")
    await both.hot.settled()
    one = both.hot.nbytes
    small = HotIndex(both.cold, both.database, max_bytes=int(one * 1.5))
    for tenant_id in ("beta", "gamma"):
        await make_customer(service, tenant_id)
        text = "\n\n".join(f"## {n}\n\nRule {n} of {tenant_id}." for n in range(60))
        await service.copilot.ingest(tenant_id, [NewDocument(text, "rules")])
    query = HybridQuery(
        (await WordllamaEmbedder().embed(["x"], deadline=Deadline.after(5))).vectors[0]
    )
    for tenant_id in ("acme", "beta", "gamma"):
        await small.search(TenantId(tenant_id), query, limit=5, deadline=Deadline.after(5))
        await small.settled()
        assert small.nbytes <= one * 1.5
    await small.close()
