"""Erasing a document or a tenant: nothing of it is found anywhere, and a signed receipt says so."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from compliance_copilot.core.errors import Conflict, Gone, NotFound, UnknownTenant
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.storage.signing import is_signed, open_signer
from compliance_copilot.tenancy.erasures import PURPOSE, Receipt
from tests.conftest import Customer, make_customer
from tests.rag.test_versions import come, from_now

ACME = TenantId("acme")
SECRET = NewDocument("# Falcons\n\nProject Falcon keeps its records for nine years.", "falcon")
OTHER = NewDocument("# Backups\n\nBackups are kept for thirty days.", "backups")
QUESTION = "How long does Project Falcon keep its records?"
PARTS = """
    SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind = 'r'
      AND c.relnamespace = 'public'::regnamespace
"""
KEPT = {"tenants", "erasures", "audit_entries", "usage_events", "usage_hours", "spend_months"}


@pytest.fixture
async def acme(service: Service) -> Customer:
    customer = await make_customer(service, "acme", config={"model_tier": "extractive"})
    await service.copilot.ingest("acme", [SECRET, OTHER])
    return customer


async def rows_with(owner: asyncpg.Connection, text: str) -> list[str]:
    """Return the tables of tenants in which a text stands, wherever in a row."""
    tables = [row["relname"] for row in await owner.fetch(PARTS)]
    return [
        table
        for table in tables
        if table not in KEPT
        and await owner.fetchval(
            f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text ILIKE $1)", f"%{text}%"
        )
    ]


def signed(settings: Settings, receipt: Receipt) -> bool:
    signer = open_signer(None, settings.data_dir / "audit")
    assert receipt.key_id == signer.key_id
    return is_signed(signer.public_key, PURPOSE, receipt.message, receipt.signature or "")


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


async def test_an_erased_document_is_found_nowhere_and_the_receipt_is_signed(
    service: Service, settings: Settings, acme: Customer, owner: asyncpg.Connection
) -> None:
    reply = await service.copilot.query("acme", QUESTION)
    assert "nine years" in reply.answer
    assert await rows_with(owner, "falcon")
    receipt = await service.erasing.document(ACME, "falcon", requested_by="a key")
    assert (receipt.state, receipt.probe) == ("finished", {})
    assert receipt.counts["documents"] == receipt.counts["document_versions"] == 1
    assert receipt.counts["replies"] == 1
    assert signed(settings, receipt)
    assert not signed(settings, replace(receipt, subject="another"))
    assert await rows_with(owner, "falcon") == []
    assert await rows_with(owner, "backups")
    for gone in (
        service.copilot.documents.text(ACME, "falcon", 1),
        service.copilot.documents.versions(ACME, "falcon"),
        service.erasing.document(ACME, "falcon", requested_by="a key"),
    ):
        with pytest.raises(NotFound):
            await gone
    with pytest.raises(Gone):
        await service.copilot.answers.require(ACME, reply.metadata.request_id)
    again = await service.copilot.query("acme", QUESTION)
    assert all(source.chunk.document_id != "falcon" for source in again.sources)
    assert await service.erasing.store.require(ACME, receipt.erasure_id) == receipt


async def test_an_erased_tenant_keeps_its_ledger_and_its_log_and_nothing_else(
    service: Service, settings: Settings, acme: Customer, owner: asyncpg.Connection
) -> None:
    await make_customer(service, "beta")
    await service.copilot.ingest("beta", [OTHER])
    await service.copilot.query("acme", QUESTION)
    await service.copilot.query("acme", QUESTION)
    receipt = await service.erasing.tenant(ACME, requested_by="operator")
    assert (receipt.state, receipt.probe) == ("finished", {})
    assert receipt.counts["chunks"] >= 2
    assert signed(settings, receipt)
    for table in {row["relname"] for row in await owner.fetch(PARTS)} - KEPT:
        left = await owner.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = 'acme'")
        assert left == 0, table
    assert await owner.fetchval("SELECT count(*) FROM usage_events WHERE tenant_id = 'acme'") >= 2
    stone = await owner.fetchrow("SELECT * FROM tenants WHERE tenant_id = 'acme'")
    assert (stone["name"], stone["config"], stone["status"]) == ("", "{}", "deleted")
    hot = [file.parent.name for file in files_below(settings.data_dir) if file.suffix == ".corpus"]
    assert "acme" not in hot
    assert await rows_with(owner, "backups")
    with pytest.raises(UnknownTenant):
        await service.copilot.query("acme", QUESTION)
    assert (await service.copilot.search("beta", "How long are backups kept?")).results


async def test_a_table_that_comes_later_is_emptied_too_and_one_that_may_not_be_stops_the_receipt(
    service: Service, acme: Customer, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "CREATE TABLE summaries (tenant_id text, id uuid, document_id text, note jsonb);"
        "CREATE TABLE sealed (tenant_id text, note jsonb);"
        "GRANT SELECT, INSERT, DELETE ON summaries TO copilot_test;"
        "GRANT SELECT, INSERT ON sealed TO copilot_test"
    )
    await owner.execute("INSERT INTO summaries VALUES ('acme', NULL, 'falcon', NULL)")
    await owner.execute(
        "INSERT INTO sealed VALUES ('acme', $1)", '{"a": [{"document_id": "falcon"}]}'
    )
    receipt = await service.erasing.document(ACME, "falcon", requested_by="a key")
    assert receipt.counts["summaries"] == 1
    assert (receipt.state, receipt.probe, receipt.signature) == ("erasing", {"sealed": 1}, None)
    await service.erasing.sweep()
    assert (await service.erasing.store.require(ACME, receipt.erasure_id)).state == "erasing"
    await owner.execute("GRANT DELETE ON sealed TO copilot_test; DELETE FROM sealed")
    await service.erasing.sweep()
    assert (await service.erasing.store.require(ACME, receipt.erasure_id)).state == "finished"


async def test_a_request_under_way_keeps_the_receipt_open_and_what_it_writes_is_taken(
    service: Service, acme: Customer, owner: asyncpg.Connection
) -> None:
    await service.copilot.query("acme", QUESTION)
    late = "UPDATE usage_events SET state = $1, lease_expires_at = now() + interval '1 minute'"
    await owner.execute(f"{late} WHERE operation = 'query'", "reserved")
    receipt = await service.erasing.document(ACME, "falcon", requested_by="a key")
    assert receipt.probe == {"requests_under_way": 1}
    await owner.execute(
        "INSERT INTO replies (tenant_id, request_id, operation, reply, document_ids, expires_at)"
        " VALUES ('acme', $1, 'query', '{}', '{falcon}', now() + interval '1 day')",
        UUID(int=7),
    )
    await service.erasing.sweep()
    assert (
        await owner.fetchval("SELECT count(*) FROM replies WHERE document_ids && '{falcon}'") == 0
    )
    await owner.execute(f"{late} WHERE operation = 'query'", "settled")
    await service.erasing.sweep()
    ended = await service.erasing.store.require(ACME, receipt.erasure_id)
    assert (ended.state, ended.probe) == ("finished", {})


async def test_under_legal_hold_nothing_is_erased_and_who_set_it_is_told(
    service: Service, acme: Customer, owner: asyncpg.Connection
) -> None:
    await service.config.update_tenant_config(ACME, legal_hold="Case 7", set_by="counsel")
    await service.config.finish_writes()
    for erase in (
        service.erasing.document(ACME, "falcon", requested_by="a key"),
        service.erasing.tenant(ACME, requested_by="operator"),
    ):
        with pytest.raises(Conflict) as refused:
            await erase
        assert refused.value.facts["reason"] == "Case 7"
        assert refused.value.facts["set_by"] == "counsel"
    assert (await service.copilot.documents.require(ACME, "falcon")).version == 1
    assert await owner.fetchval("SELECT count(*) FROM erasures") == 0
    await service.config.update_tenant_config(ACME, legal_hold=None, set_by="counsel")
    await service.config.finish_writes()
    receipt = await service.erasing.document(ACME, "falcon", requested_by="a key")
    assert receipt.state == "finished"


async def test_a_document_stored_anew_under_the_id_of_an_erased_one_stays(
    service: Service, acme: Customer
) -> None:
    first = await service.erasing.document(ACME, "falcon", requested_by="a key")
    again = await service.copilot.ingest("acme", [SECRET])
    assert [(d.status, d.version) for d in again.documents] == [("created", 1)]
    await service.erasing.sweep()
    assert (await service.copilot.documents.require(ACME, "falcon")).version == 1
    assert first.state == "finished"


async def test_a_document_whose_time_is_over_is_erased_unless_it_is_held(
    service: Service, acme: Customer, owner: asyncpg.Connection
) -> None:
    await service.config.update_tenant_config(
        ACME, document_retention_days=30, legal_hold="Case 7", set_by="counsel"
    )
    await service.config.finish_writes()
    await owner.execute(
        "UPDATE documents SET updated_at = now() - interval '31 days' WHERE document_id = 'falcon'"
    )
    await service.erasing.sweep()
    assert len(await service.copilot.documents.list(ACME)) == 2
    await service.config.update_tenant_config(ACME, legal_hold=None, set_by="counsel")
    await service.config.finish_writes()
    await service.erasing.sweep()
    left = await service.copilot.documents.list(ACME)
    assert [document.document_id for document in left] == ["backups"]
    row = await owner.fetchrow("SELECT state, requested_by FROM erasures")
    assert dict(row) == {"state": "finished", "requested_by": "document_retention_days"}


async def test_a_corpus_nobody_asks_is_moved_when_a_version_is_due(
    service: Service, acme: Customer, owner: asyncpg.Connection
) -> None:
    later = replace(OTHER, text=OTHER.text.replace("thirty", "ninety"))
    await service.copilot.ingest("acme", [replace(later, effective_from=from_now(days=1))])
    await service.erasing.sweep()
    assert (await service.copilot.documents.require(ACME, "backups")).version == 1
    await come(owner, 2)
    await service.erasing.sweep()
    assert (await service.copilot.documents.require(ACME, "backups")).version == 2
