"""Which version is in force when, and that the corpus moves with it as a whole."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from compliance_copilot.core.errors import LimitReached
from compliance_copilot.core.vocabulary import NewDocument, Source, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.filter_language import EVERYTHING, narrowed
from compliance_copilot.tenancy.tenants import TenantChange
from tests.conftest import make_customer
from tests.rag.test_corpus import GERMAN, LONG, SHORT, ranking

OLD = NewDocument("# Backups\n\nBackups are kept for thirty days in a second place.", "backups")
NEW = replace(OLD, text=OLD.text.replace("thirty", "ninety"))
QUESTION = "How long are backups kept?"
ACME = TenantId("acme")


def from_now(**difference: float) -> datetime:
    return datetime.now(UTC) + timedelta(**difference)


async def found(service: Service, tenant_id: str = "acme") -> set[int]:
    reply = await service.copilot.search(tenant_id, QUESTION)
    return {result.chunk.version for result in reply.results}


async def corpus(owner: asyncpg.Connection, tenant_id: str = "acme") -> asyncpg.Record:
    return await owner.fetchrow("SELECT * FROM corpora WHERE tenant_id = $1", tenant_id)


async def come(owner: asyncpg.Connection, days: int) -> None:
    """Let days pass: everything that has an instant moves into the past by as many."""
    step = f"interval '{days} days'"
    for table in ("document_versions", "chunk_vectors"):
        await owner.execute(
            f"UPDATE {table} SET effective_from = effective_from - {step},"
            f" effective_until = effective_until - {step}"
        )
    await owner.execute(
        f"UPDATE corpora SET in_force_at = in_force_at - {step},"
        f" next_change_at = next_change_at - {step}"
    )


async def test_a_version_of_the_future_waits_and_the_old_one_holds_until_then(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [OLD])
    later = replace(NEW, effective_from=from_now(days=1))
    reply = await service.copilot.ingest("acme", [later])
    assert [(d.status, d.version, d.in_force) for d in reply.documents] == [("updated", 2, False)]
    assert await found(service) == {1}
    assert (await service.copilot.documents.require("acme", "backups")).version == 1
    again = await service.copilot.ingest("acme", [later])
    assert [(d.status, d.version) for d in again.documents] == [("unchanged", 2)]
    before = await corpus(owner)
    await come(owner, 2)
    assert await found(service) == {2}
    after = await corpus(owner)
    assert after["version"] == before["version"] + 1
    assert (after["chunks"], after["documents"]) == (before["chunks"], before["documents"])
    assert await owner.fetchval("SELECT next_change_at = 'infinity' FROM corpora")
    assert (await service.copilot.documents.require("acme", "backups")).version == 2
    assert "thirty" in await service.copilot.documents.text("acme", "backups", 1)


async def test_the_first_question_after_the_instant_is_answered_from_the_new_version(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme", config={"model_tier": "extractive"})
    await service.copilot.ingest("acme", [OLD, replace(NEW, document_id="other")])
    await service.copilot.ingest("acme", [replace(NEW, effective_from=from_now(days=1))])
    await service.copilot.documents.delete("acme", "other")
    for _ in range(3):  # kept in memory, and in the cache where there is one
        reply = await service.copilot.query("acme", QUESTION)
        assert "thirty" in reply.answer
    await come(owner, 2)
    reply = await service.copilot.query("acme", QUESTION)
    assert "ninety" in reply.answer
    assert {source.chunk.version for source in reply.sources} == {2}


async def test_a_corpus_that_a_version_came_into_equals_one_that_had_it_at_once(
    service: Service, owner: asyncpg.Connection
) -> None:
    for tenant_id in ("waiting", "at_once"):
        await make_customer(service, tenant_id)
        await service.copilot.ingest(tenant_id, [SHORT, GERMAN])
    await service.copilot.ingest("waiting", [replace(LONG, effective_from=from_now(days=1))])
    assert (await corpus(owner, "waiting"))["documents"] == 3
    alone = await ranking(service, "at_once")
    assert await ranking(service, "waiting") == alone
    await service.copilot.ingest("at_once", [LONG])
    expected = await ranking(service, "at_once")
    assert expected != alone
    await come(owner, 2)
    assert await ranking(service, "waiting") == expected


async def test_a_version_of_the_past_fills_the_time_before_and_changes_nothing_today(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [NEW])
    reply = await service.copilot.ingest("acme", [replace(OLD, effective_from=from_now(days=-30))])
    assert [(d.version, d.in_force) for d in reply.documents] == [(2, False)]
    assert await found(service) == {1}
    line = await owner.fetch(
        "SELECT version, effective_from, effective_until FROM document_versions ORDER BY 2"
    )
    assert [row["version"] for row in line] == [2, 1]
    assert line[0]["effective_until"] == line[1]["effective_from"]
    vectors = await owner.fetch("SELECT effective_until FROM chunk_vectors ORDER BY effective_from")
    assert vectors[0]["effective_until"] == line[0]["effective_until"]


async def test_a_version_stored_meanwhile_does_not_cancel_the_one_to_come(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [OLD])
    await service.copilot.ingest("acme", [replace(NEW, effective_from=from_now(days=1))])
    typo = replace(OLD, text=OLD.text.replace("a second", "another"))
    await service.copilot.ingest("acme", [typo])
    assert await found(service) == {3}
    await come(owner, 2)
    assert await found(service) == {2}


async def test_a_deleted_document_leaves_ranks_and_scores_as_if_it_had_never_been(
    service: Service, owner: asyncpg.Connection
) -> None:
    for tenant_id in ("never", "once"):
        await make_customer(service, tenant_id)
        await service.copilot.ingest(tenant_id, [SHORT])
    await service.copilot.ingest("once", [LONG])
    changed = replace(LONG, text=LONG.text.replace("password", "passphrase"))
    await service.copilot.ingest("once", [changed])
    for tenant_id in ("never", "once"):
        await service.copilot.ingest(tenant_id, [GERMAN])
    assert await ranking(service, "once") != await ranking(service, "never")
    await service.copilot.documents.delete("once", "passwords")
    assert await ranking(service, "once") == await ranking(service, "never")
    left = "SELECT term_id, document_frequency FROM term_statistics WHERE tenant_id = $1 ORDER BY 1"
    assert await owner.fetch(left, "once") == await owner.fetch(left, "never")
    stock = "SELECT documents, text_bytes, chunks, total_length, pinned_length FROM corpora"
    assert await owner.fetch(f"{stock} WHERE tenant_id = 'once'") == await owner.fetch(
        f"{stock} WHERE tenant_id = 'never'"
    )


async def test_bytes_of_all_versions_count_towards_the_limit_and_unchanged_ones_do_not(
    service: Service,
) -> None:
    size = len(OLD.text.encode())
    await make_customer(service, "acme", limits={"max_bytes": 2 * size})
    await service.copilot.ingest("acme", [OLD])
    await service.copilot.ingest("acme", [NEW])
    again = await service.copilot.ingest("acme", [NEW])
    assert [d.status for d in again.documents] == ["unchanged"]
    with pytest.raises(LimitReached) as refused:
        await service.copilot.ingest("acme", [replace(OLD, document_id="third")])
    facts = refused.value.facts
    assert (facts["limit"], facts["quota"], facts["remaining"]) == ("max_bytes", 2 * size, 0)
    await service.copilot.documents.delete("acme", "backups")
    await service.copilot.ingest("acme", [replace(OLD, document_id="third")])
    use = (await service.copilot.limits("acme"))["use"]
    assert (use["documents"], use["text_bytes"]) == (1, size)


async def test_who_is_above_a_lowered_limit_is_refused_at_the_door_until_something_is_erased(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    await service.copilot.ingest("acme", [OLD, GERMAN])
    for limit, quota in (("max_documents", 1), ("max_bytes", 100)):
        lifted = {"max_documents": None, "max_bytes": None}
        await service.tenants.update(ACME, TenantChange(limits={**lifted, limit: quota}))
        with pytest.raises(LimitReached) as refused:
            await service.copilot.ingest("acme", [OLD])
        facts = refused.value.facts
        assert (facts["limit"], facts["quota"], facts["remaining"]) == (limit, quota, 0)
    assert await owner.fetchval("SELECT count(*) FROM usage_events") == 1
    await service.copilot.documents.delete("acme", "loeschung")
    reply = await service.copilot.ingest("acme", [OLD])
    assert [d.status for d in reply.documents] == ["unchanged"]


async def test_where_a_document_was_read_from_is_kept_even_when_its_text_is_the_same(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme")
    for mark in (b"a", b"b"):
        source = Source("policies/backups.pdf", mark * 32)
        reply = await service.copilot.ingest("acme", [replace(OLD, source=source)])
        kept = await owner.fetchrow("SELECT source_path, source_hash FROM documents")
        assert (kept["source_path"], kept["source_hash"]) == (source.path, source.sha256)
    assert [d.status for d in reply.documents] == ["unchanged"]
    await service.copilot.ingest("acme", [OLD])
    assert await owner.fetchval("SELECT source_hash FROM documents") == b"b" * 32


async def test_versions_stored_at_once_by_many_follow_one_another(service: Service) -> None:
    await make_customer(service, "acme")
    texts = [OLD.text.replace("thirty", str(n)) for n in range(8)]
    await asyncio.gather(
        *(service.copilot.ingest("acme", [replace(OLD, text=text)]) for text in texts)
    )
    versions = await service.copilot.documents.versions(TenantId("acme"), "backups")
    assert [v.version for v in versions] == list(range(1, 9))
    assert [v.current for v in versions] == [False] * 7 + [True]
    assert await found(service) == {8}


async def test_a_question_as_of_yesterday_is_answered_and_cited_from_the_version_of_yesterday(
    service: Service, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "acme", config={"model_tier": "extractive"})
    await service.copilot.ingest("acme", [OLD])
    await come(owner, 2)
    await service.copilot.ingest("acme", [NEW])
    yesterday = narrowed(as_of=from_now(days=-1))
    for narrowing, word, version in ((EVERYTHING, "ninety", 2), (yesterday, "thirty", 1)):
        reply = await service.copilot.query("acme", QUESTION, narrowing=narrowing)
        assert word in reply.answer
        citation = reply.citations[0]
        cited = reply.sources[citation.source].chunk
        assert cited.version == version
        text = await service.copilot.documents.text(TenantId("acme"), "backups", cited.version)
        assert text[citation.start : citation.end] == citation.quote
        assert word in citation.quote
