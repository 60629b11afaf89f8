"""What leaves for a vendor: the sources of one tenant, and nothing that names it."""

import json

import pytest

from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.isolation import drills
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
async def test_a_call_carries_one_tenants_text_and_no_tenants_name(
    settings: Settings, provider: RunningProvider, vendor: str
) -> None:
    before = len(provider.calls())
    update = getattr(provider, f"{vendor}_settings")()
    async with open_service(settings.model_copy(update=update)) as service:
        await _ask_as_two_tenants(service, "gpt-4" if vendor == "openai" else "claude")
    calls = [json.dumps(call) for call in provider.calls()[before:]]
    assert len(calls) == 2
    for call, tenant_id, other in zip(calls, ("tenant-a", "tenant-b"), ("b", "a"), strict=True):
        assert drills.word_of(tenant_id) in call
        assert drills.word_of(f"tenant-{other}") not in call
        at = call.replace(drills.word_of(tenant_id), "").find("tenant-")
        assert at < 0, call[max(0, at - 200) : at + 100]
        assert "baggage" not in call.lower()


async def _ask_as_two_tenants(service: Service, tier: str) -> None:
    for tenant_id in ("tenant-a", "tenant-b"):
        await make_customer(service, tenant_id, config={"model_tier": tier})
        await service.copilot.ingest(tenant_id, [drills.document_of(tenant_id, 1, 6)])
        reply = await service.copilot.query(tenant_id, QUESTION)
        assert reply.metadata.model == tier
        assert reply.metadata.fallback is None
        assert reply.metadata.cost_usd > 0
        assert reply.citations
        (event, *_), _ = await service.copilot.usage.list(reply.metadata.tenant_id)
        assert event.provider_response_id
        assert event.cost_micro_usd == round(reply.metadata.cost_usd * 1_000_000)
        assert (event.input_tokens, event.output_tokens) == (
            reply.metadata.input_tokens,
            reply.metadata.output_tokens,
        )
