"""The audit log: what is in it, what it survives, and that no change to it goes unseen."""

import json
import random
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from benchmarks.audit_drill import KINDS, Ground, rewrite_from, tampered
from compliance_copilot.core.acting import Actor, acting
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import NewDocument, Scope, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.storage.audit import SYSTEM_CHAIN, AuditEntry, append
from compliance_copilot.storage.checkpoints import Checkpoints
from compliance_copilot.storage.database import open_database
from compliance_copilot.storage.signing import is_signed, make_key, open_signer
from compliance_copilot.tenancy.audit import AuditFilter, AuditLog, verified_export
from compliance_copilot.tenancy.tenants import TenantChange
from compliance_copilot.wiring import open_checkpoints
from tests.conftest import ADMIN_KEY, make_customer
from tests.isolation.conftest import World, application, world  # noqa: F401 - fixtures

EVERYTHING = AuditFilter()


async def actions(service: Service, chain: str) -> list[str]:
    found = await service.audit.list(TenantId(chain), EVERYTHING, before=None, limit=100)
    return [entry.action for entry in reversed(found)]


async def test_each_kind_of_change_is_written_down_and_in_its_own_chain(service: Service) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    await make_customer(service, "beta")
    with acting(Actor("key:one", "Ann's key", "r-1")):
        key = await service.keys.create(acme, name="k", scopes=(Scope.QUERY,))
        successor = await service.keys.rotate(acme, key.key_id)
        await service.keys.revoke(acme, successor.key_id)
        await service.config.update_tenant_config("acme", top_k=4)
        await service.config.set_system_defaults(top_k=6)
        await service.copilot.ingest("acme", [NewDocument("# A\n\nKept for a year.", "a")])
        await service.copilot.documents.delete(acme, "a")
        await service.tenants.update(acme, TenantChange(limits={"max_documents": 5}))
    await service.erasing.tenant(acme, requested_by="test")
    assert await actions(service, "acme") == [
        "key.created", "tenant.created", "key.created", "key.rotated", "key.created",
        "key.revoked", "config.changed", "documents.stored", "document.deleted",
        "tenant.changed", "tenant.deleted", "erasure.finished",
    ]  # fmt: skip
    assert await actions(service, SYSTEM_CHAIN) == [
        "tenant.created", "tenant.created", "system.configured", "tenant.changed",
        "tenant.deleted",
    ]  # fmt: skip
    assert await actions(service, "beta") == ["key.created", "tenant.created"]
    revoked = await service.audit.list(
        acme, AuditFilter(action="key.revoked"), before=None, limit=9
    )
    assert [(e.actor, e.actor_name, e.request_id) for e in revoked] == [
        ("key:one", "Ann's key", "r-1")
    ]
    for chain in ("acme", "beta", SYSTEM_CHAIN):
        verdict = await service.audit.verify(TenantId(chain))
        assert verdict.valid
        assert verdict.anchored == verdict.entries > 0


async def test_reading_anothers_answer_is_written_down_and_ones_own_is_not(
    world: World,  # noqa: F811
) -> None:
    asked = await world.client.post(
        "/query", json={"query": "How often are backups tested?"}, headers=world.alpha.headers
    )
    path = f"/answers/{asked.json()['metadata']['request_id']}"
    made = await world.client.post(
        "/tenants/alpha/keys", json={"name": "k", "scopes": ["query"]}, headers=world.alpha.headers
    )
    other = {"Authorization": f"Bearer {made.json()['secret']}"}
    reads = {"action": "answer.read"}
    for headers, written in ((world.alpha.headers, []), (other, [f"key:{made.json()['key_id']}"])):
        assert (await world.client.get(path, headers=headers)).status_code == 200
        log = await world.client.get("/audit", params=reads, headers=world.alpha.headers)
        assert [entry["actor"] for entry in log.json()["entries"]] == written


async def test_a_change_that_fails_leaves_no_entry(service: Service) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    before = await actions(service, "acme")

    async def fail() -> None:
        async with service.audit._database.transaction(acme) as connection:
            await append(connection, acme, AuditEntry("never"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert await actions(service, "acme") == before
    assert (await service.audit.verify(acme)).valid


async def test_the_serving_role_can_append_and_can_change_nothing(service: Service) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    for statement in ("UPDATE audit_entries SET actor = 'x'", "DELETE FROM audit_entries"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with service.audit._database.transaction(acme) as connection:
                await connection.execute(statement)
    await service.audit.record(acme, AuditEntry("still.possible"))


async def test_a_tenant_reads_its_own_log_and_the_operator_the_systems(world: World) -> None:  # noqa: F811
    for params in ({}, {"limit": 1}):
        own = await world.client.get("/audit", params=params, headers=world.alpha.headers)
        assert own.status_code == 200
        assert "beta" not in own.text
    entries, cursor = [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        page = await world.client.get("/audit", params=params, headers=world.alpha.headers)
        entries += page.json()["entries"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            break
    assert [entry["seq"] for entry in entries] == list(range(len(entries), 0, -1))
    made = await world.client.post(
        "/tenants/alpha/keys", json={"name": "k", "scopes": ["query"]}, headers=world.alpha.headers
    )
    shown = await world.client.get(
        "/audit", params={"subject": f"key:{made.json()['key_id']}"}, headers=world.alpha.headers
    )
    (entry,) = shown.json()["entries"]
    assert entry["request_id"] == made.headers["X-Request-ID"]
    assert entry["actor"].startswith("key:")
    assert entry["actor_name"] == "first key"
    operator = {"X-API-Key": ADMIN_KEY}
    system = await world.client.get("/audit", headers=operator)
    assert {e["action"] for e in system.json()["entries"]} == {"tenant.created"}
    for headers in (operator, world.alpha.headers):
        verdict = await world.client.get("/audit/verify", headers=headers)
        assert verdict.json()["valid"] is True
    exported = await world.client.get("/usage/statement", headers=world.alpha.headers)
    assert exported.status_code == 200
    newest = await world.client.get("/audit", params={"limit": 1}, headers=world.alpha.headers)
    assert newest.json()["entries"][0]["action"] == "statement.exported"


async def test_tampering_of_every_kind_is_found_and_its_position_named(
    service: Service, owner: asyncpg.Connection
) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    for number in range(12):
        await service.audit.record(acme, AuditEntry("thing.done", f"thing:{number}"))
    ground = Ground(owner, service.audit, acme)
    chance = random.Random(7)  # noqa: S311 - a drill's dice
    for kind in KINDS:
        for _ in range(2):
            expected, verdict = await tampered(ground, kind, chance)
            assert not verdict.valid, kind
            assert verdict.fault is not None
            assert verdict.fault.position == expected, kind
    assert (await service.audit.verify(acme)).valid


async def test_an_exported_log_proves_itself_and_no_line_of_it_can_be_changed(
    service: Service, tmp_path: Path
) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    for number in range(5):
        await service.audit.record(acme, AuditEntry("thing.done", f"thing:{number}"))
    lines = [line async for line in service.audit.export(acme)]
    public = (await service.audit.verify(acme)).public_key
    assert verified_export(lines, public).valid
    assert verified_export(lines).entries == 7
    for number, line in enumerate(lines):
        assert not verified_export([*lines[:number], *lines[number + 1 :]], public).valid or (
            b'"checkpoint"' in line
        )
        changed = line.replace(b"acme", b"amce", 1)
        assert changed != line
        assert not verified_export([*lines[:number], changed, *lines[number + 1 :]], public).valid
    entries = [number for number, line in enumerate(lines) if b'"entry"' in line]
    one, other = entries[1], entries[3]
    swapped = list(lines)
    swapped[one], swapped[other] = lines[other], lines[one]
    fault = verified_export(swapped, public).fault
    assert fault is not None
    assert fault.position == 2
    other_key = open_signer(make_key(), tmp_path).public_key
    assert not verified_export(lines, other_key).valid


async def test_an_entry_that_is_not_yet_anchored_is_told_and_the_next_one_anchors_it(
    service: Service, owner: asyncpg.Connection
) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    await owner.execute("SELECT append_audit('acme', 'x', '', '', 'crash', '', '{}')")
    verdict = await service.audit.verify(acme)
    assert verdict.valid
    assert verdict.anchored == verdict.entries - 1
    await service.audit.record(acme, AuditEntry("next"))
    verdict = await service.audit.verify(acme)
    assert verdict.anchored == verdict.entries


async def test_what_one_host_has_anchored_is_found_on_another_with_its_checkpoints(
    service: Service, settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    here, there = service.audit, tmp_path / "there"
    assert settings.database_url is not None
    dsn = settings.database_url.get_secret_value()
    other = Checkpoints(there, open_checkpoints(settings).signer)
    async with open_database(dsn, anchor=other.write) as database:
        for number in range(3):
            await AuditLog(database, other).record(acme, AuditEntry("done.there", f"{number}"))
    honest = await here.verify(acme)
    assert (honest.valid, honest.anchored, honest.entries) == (True, 2, 5)
    whole = await here.verify(acme, [there])
    assert (whole.valid, whole.anchored, whole.entries) == (True, 5, 5)

    await rewrite_from(Ground(owner, here, acme), 4, 5)
    assert (await here.verify(acme)).valid, "this host has vouched for nothing of the tail"
    found = await here.verify(acme, [there])
    assert found.fault is not None
    assert found.fault.position == 4
    exported = [line async for line in here.export(acme, [there])]
    fault = verified_export(exported, whole.public_key).fault
    assert fault is not None
    assert fault.position == 4


async def test_a_checkpoint_that_cannot_be_written_stops_no_change(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    checkpoints = Checkpoints(blocked, open_signer(make_key(), tmp_path))
    assert settings.database_url is not None
    dsn = settings.database_url.get_secret_value()
    async with open_database(dsn, anchor=checkpoints.write) as database:
        log = AuditLog(database, checkpoints)
        await log.record(TenantId("acme"), AuditEntry("thing.done"))
        found = await log.list(TenantId("acme"), EVERYTHING, before=None, limit=9)
    assert len(found) == 1
    assert "audit checkpoint not written" in caplog.text


def test_the_key_of_a_deployment_without_one_is_made_once_and_kept_private(
    settings: Settings,
) -> None:
    first, second = open_checkpoints(settings).signer, open_checkpoints(settings).signer
    assert first.public_key == second.public_key
    file = settings.data_dir / "audit" / "signing.key"
    assert file.stat().st_mode & 0o777 == 0o600
    signature = first.sign("one", b"words")
    assert is_signed(first.public_key, "one", b"words", signature)
    assert not is_signed(first.public_key, "two", b"words", signature)
    assert not is_signed(first.public_key, "one", b"word", signature)
    file.write_text("not a key")
    with pytest.raises(SetupError, match="audit key"):
        open_checkpoints(settings)


def test_entries_as_json_come_back_as_they_were() -> None:
    from datetime import UTC, datetime

    from compliance_copilot.storage.audit_chain import ChainedEntry, entry_of, fields_of

    entry = ChainedEntry(
        "acme", 1, datetime(2026, 11, 1, 1, 2, 3, 40, UTC), "a", "Zoë", "", "x.y", "s:1",
        json.dumps({"n": 1}), b"", b"\1" * 32,
    )  # fmt: skip
    assert entry_of(json.loads(json.dumps(fields_of(entry)))) == entry
    assert replace(entry, subject="s:2").computed_hash() != entry.computed_hash()
