"""A service that works off its queue, and the application in front of it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from compliance_copilot.gateway.application import build_application
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_served, working
from tests.conftest import Customer, make_customer

ENDED = {"succeeded", "partial", "failed", "cancelled"}


@pytest.fixture
async def worked(service: Service, settings: Settings) -> AsyncIterator[Service]:
    async with working(service, settings):
        yield service


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    application = build_application(lambda: open_served(settings))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            client.application = application  # type: ignore[attr-defined]
            yield client


@pytest.fixture
async def acme(client: httpx.AsyncClient) -> Customer:
    service = client.application.state.gateway.service  # type: ignore[attr-defined]
    return await make_customer(service, "acme")


async def ended(client: httpx.AsyncClient, customer: Customer, job_id: str) -> dict[str, Any]:
    """Wait for a job's end and return it."""
    async with asyncio.timeout(120):
        while True:
            reply = await client.get(f"/jobs/{job_id}", headers=customer.headers)
            assert reply.status_code == 200, reply.text
            if reply.json()["state"] in ENDED:
                return reply.json()
            await asyncio.sleep(0.05)


async def upload(
    client: httpx.AsyncClient,
    customer: Customer,
    files: dict[str, bytes],
    fields: dict[str, str] | None = None,
    **headers: str,
) -> httpx.Response:
    parts = [("files", (name, content)) for name, content in files.items()]
    headers = {**customer.headers, **headers}
    return await client.post("/ingest/files", files=parts, data=fields, headers=headers, timeout=60)
