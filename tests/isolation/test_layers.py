"""Taking a layer's own value away, and what a bootstrap file may say."""

import json
from pathlib import Path

import asyncpg
import pytest

from compliance_copilot import bootstrap
from compliance_copilot.core.errors import Conflict, InvalidRequest, SetupError
from compliance_copilot.core.vocabulary import Scope, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.tenancy.tenants import NewTenant
from tests.conftest import ADMIN_KEY, make_customer
from tests.isolation.conftest import World

OPERATOR = {"X-API-Key": ADMIN_KEY}


async def test_null_takes_a_tenants_value_away_and_the_layer_below_holds(world: World) -> None:
    path, headers = "/tenants/alpha/config", world.alpha.headers
    await world.client.patch("/system/config", json={"top_k": 6}, headers=OPERATOR)
    await world.client.patch(path, json={"top_k": 9, "temperature": 0.5}, headers=headers)
    reply = await world.client.patch(path, json={"top_k": None}, headers=headers)
    assert reply.status_code == 200
    assert reply.json()["config"] == {"temperature": 0.5}
    shown = (await world.client.get(f"{path}/effective", headers=headers)).json()["values"]
    assert (shown["top_k"]["value"], shown["top_k"]["layer"]) == (6, "system")
    assert (shown["temperature"]["value"], shown["temperature"]["layer"]) == (0.5, "tenant")


async def test_null_takes_a_system_default_away_and_the_settings_hold(world: World) -> None:
    first = (await world.client.get("/system/config", headers=OPERATOR)).json()["values"]["top_k"]
    await world.client.patch("/system/config", json={"top_k": 17}, headers=OPERATOR)
    reply = await world.client.patch("/system/config", json={"top_k": None}, headers=OPERATOR)
    assert reply.json()["values"]["top_k"] == first
    assert first["set_by"] == "settings"


async def test_none_does_the_same_in_the_library(service: Service) -> None:
    await make_customer(service, "acme", config={"top_k": 9})
    await service.config.update_tenant_config("acme", top_k=None)
    _, explained = await service.config.explain(TenantId("acme"))
    assert explained["top_k"].layer == "system"


def test_a_file_with_any_fault_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    good = {"tenant_id": "acme", "name": "Acme", "config": {"top_k": 3}}
    for bad, words in (
        ({**good, "tenant_id": "Not An Id"}, "a-z"),
        ({**good, "tenant_id": "beta", "config": {"top_k": 0}}, "top_k"),
        ({**good, "tenant_id": "beta", "config": {"nonsense": 1}}, "nonsense"),
        ({**good, "tenant_id": "beta", "limits": {"max_documents": -1}}, "max_documents"),
        (good, "twice"),
    ):
        file = tmp_path / "tenants.json"
        file.write_text(json.dumps({"tenants": [good, bad]}))
        with pytest.raises(SetupError, match=words):
            bootstrap.load_tenants(file)
    file.write_text(json.dumps({"tenants": [good]}))
    assert bootstrap.load_tenants(file) == [NewTenant("acme", "Acme", {"top_k": 3}, {})]


async def test_a_deleted_tenants_id_in_a_file_is_told_as_what_it_is(service: Service) -> None:
    file = [NewTenant("acme", "Acme", {}, {})]
    await bootstrap.apply_tenants(service, file)
    await service.erasing.tenant(TenantId("acme"), requested_by="test")
    with pytest.raises(Conflict, match="was deleted"):
        await bootstrap.apply_tenants(service, file)


async def test_a_files_null_takes_a_value_away_once(service: Service) -> None:
    await bootstrap.apply_tenants(service, [NewTenant("acme", "Acme", {"top_k": 3}, {})])
    file = [NewTenant("acme", "Acme", {"top_k": None}, {"max_documents": None})]
    await bootstrap.apply_tenants(service, file)
    once = await service.tenants.require(TenantId("acme"))
    assert (once.config, once.limits) == ({}, {"max_documents": None})
    await bootstrap.apply_tenants(service, file)
    assert await service.tenants.require(TenantId("acme")) == once


async def test_a_rotated_key_lives_as_long_as_the_one_before_was_to(service: Service) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    for days in (None, 30.0):
        old = await service.keys.create(acme, name="k", scopes=(Scope.QUERY,), expires_in_days=days)
        new = await service.keys.rotate(acme, old.key_id)
        if days is None:
            assert new.expires_at is None
        else:
            assert old.expires_at is not None
            assert new.expires_at is not None
            assert 0 <= (new.expires_at - old.expires_at).total_seconds() < 600


async def test_a_life_of_no_time_is_refused_and_makes_no_key(
    service: Service, owner: asyncpg.Connection
) -> None:
    acme = (await make_customer(service, "acme")).tenant_id
    before = await owner.fetchval("SELECT count(*) FROM api_keys")
    for days in (0, -1):
        with pytest.raises(InvalidRequest):
            await service.keys.create(acme, name="k", scopes=(Scope.QUERY,), expires_in_days=days)
    assert await owner.fetchval("SELECT count(*) FROM api_keys") == before
