"""A tenant's own key with a vendor: used for its calls alone, never shown, useless elsewhere."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from compliance_copilot.core.errors import Conflict, NotFound
from compliance_copilot.core.vocabulary import NewDocument, QueryReply, SealedKey, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.links import UNREADABLE_KEY
from compliance_copilot.settings import Settings
from compliance_copilot.storage.database import Database
from compliance_copilot.storage.sealing import KEY_FILE, Sealer, UnreadableSecretError, own_key
from compliance_copilot.tenancy.provider_keys import ProviderKeys
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"
POLICY = "# Retention\n\n## 1. Records\n\nCustomer records are kept for seven years."
OURS, THEIRS = "sk-of-the-service-itself", "sk-of-the-tenant-acme-9876"
ACME, BETA = TenantId("acme"), TenantId("beta")
OLD, NEW = "old-" * 10, "new-" * 10


async def opened(settings: Settings, provider: RunningProvider, key: str | None) -> Settings:
    update = {
        "openai_api_key": SecretStr(key) if key else None,
        "openai_base_url": provider.openai_url,
    }
    return settings.model_copy(update=update)


async def furnish(service: Service) -> None:
    for tenant in (ACME, BETA):
        await make_customer(service, tenant, config={"model_tier": "gpt-4", "cache": False})
        await service.copilot.ingest(tenant, [NewDocument(POLICY, "retention")])


@pytest.fixture
async def hosted(settings: Settings, provider: RunningProvider) -> AsyncIterator[Service]:
    async with open_service(await opened(settings, provider, OURS)) as service:
        await furnish(service)
        yield service


async def asked_by(service: Service, provider: RunningProvider, tenant: TenantId) -> str | None:
    """Return whose key the one call of a question carries, None when there is no call."""
    before = len(provider.calls())
    reply = await service.copilot.query(tenant, QUESTION)
    assert isinstance(reply, QueryReply)
    assert "seven years" in reply.answer
    calls = provider.calls()[before:]
    assert len(calls) <= 1
    veiled = {
        "sha256:" + hashlib.sha256(f"Bearer {key}".encode()).hexdigest()[:12]: key
        for key in (OURS, THEIRS)
    }
    return veiled[calls[0]["headers"]["authorization"]] if calls else None


async def test_a_tenants_key_is_used_for_its_calls_from_the_next_question_on(
    hosted: Service, provider: RunningProvider
) -> None:
    assert await asked_by(hosted, provider, ACME) == OURS
    await hosted.provider_keys.put(ACME, "openai", THEIRS, set_by="test")
    assert await asked_by(hosted, provider, ACME) == THEIRS
    assert await asked_by(hosted, provider, BETA) == OURS
    await hosted.provider_keys.delete(ACME, "openai")
    assert await asked_by(hosted, provider, ACME) == OURS
    with pytest.raises(NotFound):
        await hosted.provider_keys.delete(ACME, "openai")


async def test_a_tenants_key_opens_a_vendor_that_the_service_has_no_key_for(
    settings: Settings, provider: RunningProvider
) -> None:
    async with open_service(await opened(settings, provider, None)) as service:
        await furnish(service)
        await service.provider_keys.put(ACME, "openai", THEIRS, set_by="test")
        assert await asked_by(service, provider, ACME) == THEIRS
        assert await asked_by(service, provider, BETA) is None
        events, _ = await service.copilot.usage.list(ACME)
        row = next(event for event in events if event.operation == "query")
        assert (row.provider, row.state) == ("openai", "settled")
        assert row.cost_micro_usd > 0


async def test_what_is_told_about_a_key_are_its_last_four_characters(hosted: Service) -> None:
    told = await hosted.provider_keys.put(ACME, "openai", THEIRS, set_by="test")
    assert (told.last4, told.set_by) == ("9876", "test")
    assert await hosted.provider_keys.require(ACME, "openai") == told
    for tenant, provider in ((BETA, "openai"), (ACME, "anthropic")):
        with pytest.raises(NotFound):
            await hosted.provider_keys.require(tenant, provider)
    short = await hosted.provider_keys.put(ACME, "openai", "a-short-one", set_by="test")
    assert short.last4 == ""


async def test_a_key_is_never_part_of_a_configuration_that_is_shown(hosted: Service) -> None:
    await hosted.provider_keys.put(ACME, "openai", THEIRS, set_by="test")
    await hosted.copilot.query(ACME, QUESTION)
    _, values = await hosted.config.explain(ACME)
    assert "own_keys" not in values
    assert "sealed" not in repr(SealedKey(ACME, "openai", b"sealed"))


async def test_a_stored_key_is_unreadable_and_moved_to_another_tenant_it_does_not_open(
    hosted: Service, provider: RunningProvider, owner: asyncpg.Connection
) -> None:
    await hosted.provider_keys.put(ACME, "openai", THEIRS, set_by="test")
    assert THEIRS.encode() not in await owner.fetchval("SELECT sealed FROM provider_keys")
    await owner.execute("UPDATE provider_keys SET tenant_id = 'beta'")
    await owner.execute("UPDATE tenants SET version = version + 1")
    before = len(provider.calls())
    reply = await hosted.copilot.query(BETA, QUESTION)
    told = {n: v for n, v in reply.metadata.fallback.items() if n != "attempts"}
    assert told == {
        "requested": "gpt-4",
        "answered": "extractive",
        "reason": UNREADABLE_KEY,
    }
    assert len(provider.calls()) == before, "the service's key does not pay for it either"


async def test_a_refused_key_of_one_tenant_leaves_the_others_alone(
    hosted: Service, provider: RunningProvider
) -> None:
    await hosted.provider_keys.put(ACME, "openai", THEIRS, set_by="test")
    for _ in range(4):
        provider.fault("401", count=1)
        reply = await hosted.copilot.query(ACME, QUESTION)
        assert reply.metadata.fallback["reason"] == "auth"
    assert await asked_by(hosted, provider, BETA) == OURS


async def test_resealing_moves_every_key_under_the_newest_secrets_key(
    service: Service, database: Database, owner: asyncpg.Connection
) -> None:
    await make_customer(service, ACME)
    await ProviderKeys(database, Sealer([OLD])).put(ACME, "openai", THEIRS, set_by="test")
    both = ProviderKeys(database, Sealer([NEW, OLD]))
    assert (await both.reseal(ACME), await both.reseal(ACME)) == (1, 0)
    sealed = await owner.fetchval("SELECT sealed FROM provider_keys")
    key = SealedKey(ACME, "openai", sealed)
    assert ProviderKeys(database, Sealer([NEW])).open(key) == THEIRS
    assert ProviderKeys(database, Sealer([OLD])).open(key) is None
    with pytest.raises(Conflict):
        await ProviderKeys(database, Sealer(["third" * 10])).reseal(ACME)


@pytest.mark.parametrize("change", [(BETA, "openai"), (ACME, "anthropic")])
def test_a_secret_is_bound_to_its_tenant_and_its_name(change: tuple[TenantId, str]) -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(ACME, "openai", THEIRS)
    assert sealer.open(ACME, "openai", sealed) == THEIRS
    with pytest.raises(UnreadableSecretError):
        sealer.open(*change, sealed)
    with pytest.raises(UnreadableSecretError):
        sealer.open(ACME, "openai", sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_the_key_of_a_development_machine_is_its_owners_alone(tmp_path: Path) -> None:
    key = own_key(tmp_path)
    assert own_key(tmp_path) == key
    assert len(key) > 32
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
