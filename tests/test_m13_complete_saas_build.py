"""The smoke suite: the course's names and its README's steps, in their order, without keys."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import config
from compliance_copilot.core.errors import LimitReached, UnknownTenant
from compliance_copilot.core.vocabulary import NewDocument, Operation
from compliance_copilot.readiness import missing_reason
from compliance_copilot.settings import Settings, load_settings
from l3_m13_complete_saas_build import (
    ComplianceCopilotSaaS,
    ModelTier,
    ResourceLimits,
    RetrievalMode,
    TenantContext,
    open_copilot,
)
from tests.conftest import make_customer

NAMES = (
    "ComplianceCopilotSaaS",
    "ConfigManager",
    "ModelTier",
    "ResourceLimits",
    "RetrievalMode",
    "TenantContext",
    "open_copilot",
)
POLICY = """# Data Protection Policy

## 4. Encryption

All customer data must be encrypted at rest with AES-256.

## 5. Retention

Customer records are kept for seven years.
"""


@asynccontextmanager
async def opened(settings: Settings, *tenants: str) -> AsyncIterator[ComplianceCopilotSaaS]:
    from compliance_copilot.wiring import open_service

    async with open_service(settings) as service:
        for tenant_id in tenants:
            await make_customer(service, tenant_id)
        yield service.copilot


@pytest.mark.parametrize("path", ["l3_m13_complete_saas_build", "src.l3_m13_complete_saas_build"])
def test_the_course_module_exports_its_names_with_and_without_src(path: str) -> None:
    module = importlib.import_module(path)
    assert all(hasattr(module, name) for name in NAMES)
    assert module.ComplianceCopilotSaaS is ComplianceCopilotSaaS


def test_settings_come_with_the_seeds_defaults() -> None:
    settings = load_settings(environment="test")
    assert settings.default_model is ModelTier.GPT35
    assert settings.default_retrieval_mode is RetrievalMode.BASIC
    assert (settings.max_queries_per_hour, settings.max_concurrent_requests) == (100, 5)


def test_config_gives_none_for_a_client_whose_key_is_not_set() -> None:
    without = load_settings(environment="test", openai_api_key="sk-your-openai-api-key-here")
    assert config.make_openai_client(without) is None
    assert without.unset_placeholders == ("OPENAI_API_KEY",)
    with_key = load_settings(environment="test", openai_api_key="sk-something-else")
    assert config.make_openai_client(with_key) is not None


async def test_the_seeds_snippets_work_in_their_order(settings: Settings) -> None:
    async with opened(settings, "acme_corp", "beta_inc") as copilot:
        copilot.config_mgr.set_system_defaults(model_tier=ModelTier.GPT35)
        copilot.config_mgr.update_tenant_config("acme_corp", model_tier=ModelTier.GPT4)
        await copilot.ingest("acme_corp", [NewDocument(POLICY, "policy")])

        TenantContext.set_tenant("acme_corp")
        answer = await copilot.query(
            tenant_id="acme_corp",
            query_text="How must customer data be encrypted at rest?",
            override_config={"retrieval_mode": RetrievalMode.HYBRID},
        )
        assert "AES-256" in answer.answer
        assert answer.metadata.retrieval_mode is RetrievalMode.HYBRID
        assert answer.metadata.fallback["requested"] == "gpt-4"

        await copilot.query("beta_inc", "How must customer data be encrypted at rest?")
        assert TenantContext.get_tenant() == "acme_corp"
        TenantContext.clear_tenant()

        summary = await copilot.metrics("acme_corp")
        assert (summary.total_queries, summary.successful_queries) == (1, 1)


async def test_limits_hold_for_one_tenant_and_not_for_the_other(settings: Settings) -> None:
    limits = ResourceLimits(
        max_queries_per_hour=1, max_tokens_per_query=4096, max_concurrent_requests=5
    )
    async with opened(settings, "tenant_a", "tenant_b") as copilot:
        await copilot.config_mgr.update_tenant_config("tenant_a", resource_limits=limits)
        await copilot.query("tenant_a", "How long are records kept?")
        with pytest.raises(LimitReached):
            await copilot.query("tenant_a", "How long are records kept?")
        await copilot.query("tenant_b", "How long are records kept?")


async def test_an_unknown_tenant_names_the_command_that_creates_it(settings: Settings) -> None:
    async with opened(settings) as copilot:
        with pytest.raises(UnknownTenant, match="compliance-copilot tenants create nobody"):
            await copilot.query("nobody", "Who?")


def test_a_named_provider_without_its_key_is_the_limited_mode() -> None:
    settings = load_settings(environment="test", generation_provider="openai")
    reason = missing_reason(settings, Operation.QUERY)
    assert reason == "Service not initialized: OPENAI_API_KEY is not set"
    assert missing_reason(settings, Operation.SEARCH) is None


async def test_open_copilot_opens_the_service_for_library_use(settings: Settings) -> None:
    async with open_copilot(settings) as copilot:
        assert isinstance(copilot, ComplianceCopilotSaaS)
