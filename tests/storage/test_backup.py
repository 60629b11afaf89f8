"""A backup under write load, restored elsewhere: the same ledger, the same log, answers."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.storage import migrations
from compliance_copilot.storage.audit import SYSTEM_CHAIN
from compliance_copilot.storage.backup import read_manifest, write_backup
from compliance_copilot.storage.restoring import restore_backup
from compliance_copilot.wiring import open_service
from tests.conftest import PASSWORD, ROLE, Server, make_customer

QUESTION = "How long are records kept?"


def policy(tenant_id: str, number: int) -> NewDocument:
    text = f"# Records\n\nRecords of {tenant_id} are kept for {number} years.\tTabs \\ and ünïcode."
    return NewDocument(text, f"records-{number}")


async def test_a_backup_under_load_comes_back_elsewhere_as_it_was(
    server: Server, service: Service, settings: Settings, tmp_path: Path
) -> None:
    for name in ("acme", "beta"):
        await make_customer(service, name)
        await service.copilot.ingest(name, [policy(name, 7)])
    stop = asyncio.Event()

    async def load(name: str) -> int:
        done = 0
        while not stop.is_set():
            await service.copilot.query(name, QUESTION)
            await service.copilot.ingest(name, [policy(name, 100 + done)])
            done += 1
        return done

    loads = [asyncio.create_task(load(name)) for name in ("acme", "beta")]
    await asyncio.sleep(0.2)
    assert settings.database_url is not None
    serving = settings.database_url.get_secret_value()
    folder = tmp_path / "backup"
    told = await write_backup(serving, folder, beside=settings.data_dir / "audit")
    stop.set()
    assert min(await asyncio.gather(*loads)) > 0
    assert read_manifest(folder) == told
    assert told.tables["usage_events"]["rows"] == told.ledger["rows"] > 0
    assert {"acme", "beta", SYSTEM_CHAIN} == set(told.audit_heads)

    name = f"copilot_{uuid4().hex[:12]}"
    await server.administer(f"CREATE DATABASE {name}")
    try:
        owner, elsewhere = server.owner_dsn(name), tmp_path / "elsewhere"
        await migrations.migrate(owner, role=ROLE, password=PASSWORD)
        assert await restore_backup(owner, folder, beside=elsewhere / "audit") == told
        again = tmp_path / "again"
        back = await write_backup(server.serving_dsn(name), again)
        assert (back.ledger, back.audit_heads) == (told.ledger, told.audit_heads)
        for table, facts in told.tables.items():
            assert back.tables[table]["rows"] == facts["rows"], table
        with pytest.raises(SetupError, match="has tenants already"):
            await restore_backup(owner, folder)
        there = settings.model_copy(
            update={
                "database_url": type(settings.database_url)(server.serving_dsn(name)),
                "database_owner_url": type(settings.database_url)(owner),
                "data_dir": elsewhere,
            }
        )
        async with open_service(there) as restored:
            reply = await restored.copilot.query("acme", QUESTION)
            assert "acme" in reply.answer
            for chain in ("acme", "beta", SYSTEM_CHAIN):
                verdict = await restored.audit.verify(TenantId(chain))
                # The load went on after the snapshot: its checkpoints tell of entries that are
                # not in the backup, and of nothing else.
                assert verdict.valid or verdict.fault.position == verdict.entries + 1
    finally:
        await server.administer(f"DROP DATABASE {name} WITH (FORCE)")


async def test_what_is_no_whole_backup_is_refused_and_nothing_is_restored(
    server: Server, database_name: str, settings: Settings, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    serving, folder = settings.database_url.get_secret_value(), tmp_path / "backup"
    owner = server.owner_dsn(database_name)
    await write_backup(serving, folder)
    with pytest.raises(SetupError, match="empty folder"):
        await write_backup(serving, folder)
    with pytest.raises(SetupError, match="not a whole backup"):
        await restore_backup(owner, tmp_path / "nothing")
    told = json.loads((folder / "manifest.json").read_text())
    for change, words in (
        ({"schema": "0001"}, "schema"),
        ({"format": "other"}, "another version"),
        ({"ledger": {"rows": 1, "cost_micro_usd": 1}}, "sums differ"),
    ):
        (folder / "manifest.json").write_text(json.dumps({**told, **change}))
        with pytest.raises(SetupError, match=words):
            await restore_backup(owner, folder)
    (folder / "manifest.json").write_text(json.dumps(told))
    file = folder / "prices.copy.gz"
    whole = file.read_bytes()
    file.write_bytes(whole + b"\0")
    with pytest.raises(SetupError, match="not what was written"):
        await restore_backup(owner, folder)
    file.write_bytes(whole)
    assert await restore_backup(owner, folder) == replace(read_manifest(folder))
