"""A provider that is named without its key: the service starts, says so, and bills nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from compliance_copilot.core.errors import NotInitialized, SetupError
from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import Customer, make_customer
from tests.standins.onnx_model import make_folder

DOCUMENT = {"document_id": "backups", "text": "Backups are kept for thirty days."}
BODIES = {
    "/query": {"query": "How long are backups kept?"},
    "/search": {"query": "How long are backups kept?"},
    "/ingest": {"documents": [DOCUMENT]},
}
CASES = [
    ("generation_provider", "openai", "OPENAI_API_KEY", "generation", {"/query"}),
    ("generation_provider", "anthropic", "ANTHROPIC_API_KEY", "generation", {"/query"}),
    ("embedding_provider", "openai", "OPENAI_API_KEY", "embedding", set(BODIES)),
    ("vector_store", "pinecone", "PINECONE_API_KEY", "vector_store", set(BODIES)),
]


@dataclass
class Open:
    """A running service behind HTTP, and one tenant of it."""

    service: Service
    client: httpx.AsyncClient
    customer: Customer


async def opened(settings: Settings) -> AsyncIterator[Open]:
    async with open_service(settings) as service:
        application = build_application(lambda: _given(service), lambda: Deployment("test", ""))
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(transport=transport, base_url="http://copilot") as client,
        ):
            yield Open(service, client, await make_customer(service, "acme"))


class _given:  # noqa: N801 - an async context manager that gives what it was given
    def __init__(self, service: Service) -> None:
        self._service = service

    async def __aenter__(self) -> Service:
        return self._service

    async def __aexit__(self, *_: object) -> None:
        return None


@pytest.mark.parametrize(("setting", "value", "variable", "component", "skipped"), CASES)
async def test_what_needs_the_vendor_is_skipped_and_nothing_is_billed(
    settings: Settings,
    setting: str,
    value: str,
    variable: str,
    component: str,
    skipped: set[str],
) -> None:
    async for limited in opened(settings.model_copy(update={setting: value})):
        reason = f"Service not initialized: {variable} is not set"
        for route, body in BODIES.items():
            anonymous = await limited.client.post(route, json=body)
            assert anonymous.status_code == 401, "authentication comes first"
            reply = await limited.client.post(route, json=body, headers=limited.customer.headers)
            assert reply.status_code == 200
            was_skipped = reply.json() == {"skipped": True, "reason": reason}
            assert was_skipped is (route in skipped), (route, reply.json())
        ready = (await limited.client.get("/ready")).json()
        assert ready["status"] == "limited"
        assert ready["components"][component] == {"status": "limited", "detail": reason}
        events, _ = await limited.service.copilot.usage.list("acme")
        assert {f"/{event.operation}" for event in events} == set(BODIES) - skipped
        metrics = await limited.client.get("/metrics/acme", headers=limited.customer.headers)
        assert metrics.status_code == 200
        assert "total_queries" in metrics.json()


async def test_a_service_that_has_everything_skips_nothing(settings: Settings) -> None:
    async for full in opened(settings):
        for route, body in BODIES.items():
            reply = await full.client.post(route, json=body, headers=full.customer.headers)
            assert "skipped" not in reply.json()
        assert (await full.client.get("/ready")).json()["status"] == "ready"


async def test_the_first_start_without_the_key_leaves_the_documents_to_the_start_with_it(
    settings: Settings,
) -> None:
    examples = settings.model_copy(update={"load_examples": True})
    limited = examples.model_copy(update={"embedding_provider": "openai"})
    for _ in range(2):
        async with open_service(limited) as service:
            assert "acme_corp" in await service.tenants.list_ids(limit=10)
            with pytest.raises(NotInitialized):
                await service.copilot.query("acme_corp", "What is encrypted?")
            keys = await service.keys.list("acme_corp", after=None, limit=10)
            assert len(keys) == 1
    async with open_service(examples) as service:
        assert await service.copilot.documents.list("acme_corp")


async def test_an_onnx_folder_embeds_questions_and_documents(
    settings: Settings, tmp_path: Path
) -> None:
    chosen = {"embedding_provider": "onnx", "onnx_model_dir": make_folder(tmp_path / "tiny")}
    async with open_service(settings.model_copy(update=chosen)) as service:
        await make_customer(service, "acme")
        documents = [
            NewDocument("backups kept long", "backups"),
            NewDocument("visitors badges", "visitors"),
        ]
        await service.copilot.ingest("acme", documents)
        found = await service.copilot.search("acme", "badges")
        assert found.results[0].chunk.document_id == "visitors"
        ready = await service.status()
        assert ready.components["embedding"].detail.startswith("onnx-tiny-")


async def test_onnx_without_its_folder_is_refused_in_one_line(settings: Settings) -> None:
    with pytest.raises(SetupError, match="ONNX_MODEL_DIR"):
        async with open_service(settings.model_copy(update={"embedding_provider": "onnx"})):
            pass
