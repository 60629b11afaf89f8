"""Keys and configuration over two workers: a change holds for the very next request."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import asyncpg
import pytest

from compliance_copilot import bootstrap
from compliance_copilot.core.errors import (
    Conflict,
    CopilotError,
    Forbidden,
    InvalidRequest,
    LimitReached,
    Unauthenticated,
    UnknownTenant,
)
from compliance_copilot.core.vocabulary import Principal, Scope, TenantId
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.settings import PROJECT_ROOT, Settings
from compliance_copilot.tenancy import keys as keys_module
from compliance_copilot.tenancy.cascade import resolve
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_service
from tests.conftest import Customer, make_customer

QUESTION = "How long are customer records kept?"


@dataclass
class Workers:
    """Two services on one database, as two worker processes have them."""

    one: Service
    other: Service
    acme: Customer

    async def ask(self, service: Service, secret: str, **overrides: object) -> object:
        principal = await service.keys.identify(secret, fresh=False)
        assert isinstance(principal, Principal)
        return await service.copilot.query(
            principal.tenant_id, QUESTION, override_config=overrides, call=Call(principal)
        )


@pytest.fixture
async def workers(settings: Settings) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(open_service(settings))
        other = await stack.enter_async_context(open_service(settings))
        acme = await make_customer(one, "acme")
        workers = Workers(one, other, acme)
        for service in (one, other):
            await workers.ask(service, acme.key)  # both have the key and the configuration
        yield workers


async def test_a_revoked_key_ends_for_the_next_request_on_every_worker(workers: Workers) -> None:
    made = await workers.one.keys.create(
        workers.acme.tenant_id, name="short", scopes=(Scope.QUERY,)
    )
    for service in (workers.one, workers.other):
        await workers.ask(service, made.secret)
    await workers.one.keys.revoke(workers.acme.tenant_id, made.key_id)
    for service in (workers.one, workers.other):
        with pytest.raises(Unauthenticated):
            await workers.ask(service, made.secret)
        await workers.ask(service, workers.acme.key)


async def test_changes_of_configuration_and_limits_hold_at_once_on_every_worker(
    workers: Workers,
) -> None:
    tenant = workers.acme.tenant_id
    await workers.one.config.update_tenant_config(tenant, retrieval_mode="hybrid")
    reply = await workers.ask(workers.other, workers.acme.key)
    assert reply.metadata.retrieval_mode == "hybrid"
    await workers.other.config.set_system_defaults(top_k=2)
    version, explained = await workers.one.config.explain(tenant)
    assert (explained["top_k"].value, explained["top_k"].layer) == (2, "system")
    await workers.one.config.update_tenant_config(
        tenant, resource_limits={"max_queries_per_hour": 0}
    )
    with pytest.raises(LimitReached):
        await workers.ask(workers.other, workers.acme.key)
    assert version >= 3


async def test_a_suspended_tenant_is_refused_at_once_and_resumed_at_once(
    workers: Workers,
) -> None:
    from compliance_copilot.tenancy.tenants import TenantChange

    await workers.one.tenants.update(workers.acme.tenant_id, TenantChange(status="suspended"))
    with pytest.raises(Forbidden):
        await workers.ask(workers.other, workers.acme.key)
    await workers.one.tenants.update(workers.acme.tenant_id, TenantChange(status="active"))
    await workers.ask(workers.other, workers.acme.key)


async def test_a_lost_scope_is_refused_at_admission(
    workers: Workers, owner: asyncpg.Connection
) -> None:
    await owner.execute("UPDATE api_keys SET scopes = '{ingest}' WHERE tenant_id = 'acme'")
    with pytest.raises(Forbidden):
        await workers.ask(workers.other, workers.acme.key)


async def test_a_key_expires_and_an_unexpired_one_does_not(
    workers: Workers, owner: asyncpg.Connection
) -> None:
    made = await workers.one.keys.create(
        workers.acme.tenant_id, name="short", scopes=(Scope.QUERY,), expires_in_days=1
    )
    await workers.ask(workers.one, made.secret)
    await owner.execute(
        "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE id = $1", made.key_id
    )
    with pytest.raises(Unauthenticated):
        await workers.ask(workers.one, made.secret)
    assert await workers.one.keys.identify(made.secret, fresh=True) is None


async def test_a_rotated_key_overlaps_with_its_successor_for_a_day(
    workers: Workers, owner: asyncpg.Connection
) -> None:
    (old,) = await workers.one.keys.list(workers.acme.tenant_id)
    new = await workers.one.keys.rotate(workers.acme.tenant_id, old.key_id)
    await workers.ask(workers.other, new.secret)
    await workers.ask(workers.other, workers.acme.key)
    ends = await owner.fetchval("SELECT expires_at FROM api_keys WHERE id = $1", old.key_id)
    assert 23 * 3600 < (ends - old.created_at).total_seconds() < 25 * 3600
    await owner.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", old.key_id)
    with pytest.raises(Unauthenticated):
        await workers.ask(workers.other, workers.acme.key)
    await workers.ask(workers.other, new.secret)


async def test_the_last_use_is_written_at_most_once_a_minute(
    workers: Workers, owner: asyncpg.Connection
) -> None:
    first = await owner.fetchrow("SELECT last_used_at, xmin::text FROM api_keys")
    assert first["last_used_at"] is not None
    await asyncio.gather(*(workers.ask(workers.one, workers.acme.key) for _ in range(5)))
    assert await owner.fetchrow("SELECT last_used_at, xmin::text FROM api_keys") == first
    await owner.execute("UPDATE api_keys SET last_used_at = now() - interval '2 minutes'")
    await workers.ask(workers.one, workers.acme.key)
    later = await owner.fetchval("SELECT now() - last_used_at < interval '5 seconds' FROM api_keys")
    assert later


async def test_a_typo_is_found_without_asking_the_database(service: Service) -> None:
    customer = await make_customer(service, "acme")
    asked: list[str] = []
    fetch = service.keys._database._fetch

    async def counted(*arguments: object) -> object:
        asked.append(str(arguments[0]))
        return await fetch(*arguments)

    service.keys._database._fetch = counted
    for typo in (customer.key[:-1] + "!", "cc_live_" + "0" * 43 + "_000000", customer.key.upper()):
        assert not keys_module.is_well_formed(typo)
        assert await service.keys.identify(typo, fresh=True) is None
    assert asked == []
    assert await service.keys.identify(customer.key, fresh=True) is not None
    assert len(asked) == 1


async def test_secrets_are_stored_as_hashes_and_stay_out_of_words_and_logs(
    service: Service, owner: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued = (await service.tenants.create(NewTenant("acme", "A", {}, {}), set_by="x"))[1]
    assert issued is not None
    assert issued.secret not in repr(issued)
    principal = await service.keys.identify(issued.secret, fresh=True)
    assert issued.secret not in repr(principal)
    stored = await owner.fetchrow("SELECT * FROM api_keys")
    assert issued.secret not in repr(dict(stored))
    assert stored["key_hash"] == keys_module.hash_of(issued.secret)
    with pytest.raises(CopilotError) as refused:
        await service.copilot.query("acme", " ", call=Call(principal))
    assert issued.secret not in str(refused.value) + repr(refused.value.facts)
    assert issued.secret not in caplog.text


async def test_overrides_are_taken_refused_or_unknown_and_never_ignored(service: Service) -> None:
    customer = await make_customer(service, "acme", config={"max_tokens": 1000})
    tenant = customer.tenant_id
    reply = await service.copilot.query(tenant, QUESTION, override_config={"max_tokens": 10})
    assert reply.metadata.tenant_id == tenant
    for override, field in (
        ({"max_tokens": 1001}, "max_tokens"),
        ({"cache": False}, "cache"),
        ({"nonsense": 1}, "nonsense"),
        ({"top_k": 0}, "top_k"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await service.copilot.query(tenant, QUESTION, override_config=override)
        assert refused.value.facts["field"] == field
    await service.config.update_tenant_config(tenant, query_overrides=["cache"])
    await service.copilot.query(tenant, QUESTION, override_config={"cache": False})
    with pytest.raises(InvalidRequest):
        await service.copilot.query(tenant, QUESTION, override_config={"max_tokens": 10})


def test_the_cascade_is_a_pure_function_of_its_layers() -> None:
    from compliance_copilot.tenancy.cascade import ValueOrigin

    system = {"top_k": ValueOrigin(7, "system"), "temperature": ValueOrigin(0.1, "system")}
    tenant = {"top_k": ValueOrigin(8, "tenant")}
    resolved = resolve(system, tenant, {"temperature": 0.9})
    assert (resolved.top_k, resolved.temperature) == (8, 0.9)
    assert resolve(system, tenant, {}).temperature == 0.1


async def test_each_value_tells_its_layer_its_setter_and_its_time(service: Service) -> None:
    await make_customer(service, "acme", config={"top_k": 9})
    await service.config.set_system_defaults(set_by="operator", temperature=0.5)
    _, explained = await service.config.explain(TenantId("acme"))
    assert (explained["top_k"].layer, explained["top_k"].set_by) == ("tenant", "test")
    assert explained["top_k"].set_at is not None
    assert (explained["temperature"].layer, explained["temperature"].set_by) == (
        "system",
        "operator",
    )
    assert (explained["model_tier"].layer, explained["model_tier"].set_by) == (
        "system",
        "settings",
    )


async def test_an_id_is_never_given_out_again(service: Service) -> None:
    await make_customer(service, "acme")
    await service.erasing.tenant(TenantId("acme"), requested_by="test")
    with pytest.raises(Conflict):
        await make_customer(service, "acme")
    with pytest.raises(UnknownTenant):
        await service.copilot.query("acme", QUESTION)
    await make_customer(service, "acme2")


async def test_bootstrapping_from_a_file_twice_changes_nothing_the_second_time(
    service: Service,
) -> None:
    tenants = bootstrap.load_tenants(PROJECT_ROOT / "configs" / "example.json")
    first = await bootstrap.apply_tenants(service, tenants)
    assert all(first.values())
    before = [await service.tenants.require(TenantId(t.tenant_id)) for t in tenants]
    second = await bootstrap.apply_tenants(service, tenants)
    assert set(second.values()) == {None}
    after = [await service.tenants.require(TenantId(t.tenant_id)) for t in tenants]
    assert after == before
    renamed = [replace(tenants[0], name="Renamed"), *tenants[1:]]
    await bootstrap.apply_tenants(service, renamed)
    again = [await service.tenants.require(TenantId(t.tenant_id)) for t in tenants]
    assert again[0].name == "Renamed"
    assert again[0].version == after[0].version + 1
    assert again[1:] == after[1:]


async def test_what_a_tenant_has_set_keeps_its_setter_when_the_file_is_applied_again(
    service: Service,
) -> None:
    file = [NewTenant("acme", "Acme", {"top_k": 4}, {})]
    await bootstrap.apply_tenants(service, file)
    await service.config.update_tenant_config("acme", set_by="someone", temperature=0.7, top_k=4)
    await bootstrap.apply_tenants(service, file)
    _, explained = await service.config.explain(TenantId("acme"))
    assert explained["temperature"].set_by == "someone"
    assert explained["top_k"].set_by == "someone"
    await bootstrap.apply_tenants(service, [NewTenant("acme", "Acme", {"top_k": 6}, {})])
    _, explained = await service.config.explain(TenantId("acme"))
    assert (explained["top_k"].value, explained["top_k"].set_by) == (6, "bootstrap")


async def test_a_key_made_while_its_tenant_is_ended_opens_nothing(service: Service) -> None:
    await make_customer(service, "acme")
    late = await service.keys.create(TenantId("acme"), name="late", scopes=(Scope.QUERY,))
    assert await service.keys.identify(late.secret, fresh=True) is not None
    await service.erasing.tenant(TenantId("acme"), requested_by="test")
    late = await service.keys.create(TenantId("acme"), name="later", scopes=(Scope.QUERY,))
    assert await service.keys.identify(late.secret, fresh=True) is None
