"""Two tenants on the real application: A owns documents and a key, B tries to reach them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import httpx
import pytest
from fastapi import FastAPI

from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import Customer, make_customer


def policy_of(name: str) -> NewDocument:
    """A policy whose every sentence carries the tenant's canary."""
    word = f"canary{name}"
    return NewDocument(
        f"# Retention {word}\n\n## 1. Records {word}\n\n"
        f"Customer records of {word} are kept for seven years by the {word} archive.\n\n"
        f"## 2. Backups {word}\n\nBackups of {word} are tested every month.",
        f"retention-{name}",
        f"Retention of {word}",
        {"owner": word},
    )


QUESTIONS = (
    "How long are customer records kept?",
    "How often are backups tested?",
    "What does canaryalpha say?",
    "What does canarybeta say?",
)


@dataclass
class World:
    """The application with two tenants in it."""

    application: FastAPI
    client: httpx.AsyncClient
    alpha: Customer
    beta: Customer


@pytest.fixture
async def application(settings: Settings) -> AsyncIterator[FastAPI]:
    application = build_application(
        partial(open_service, settings), lambda: Deployment("test", None)
    )
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def world(application: FastAPI) -> AsyncIterator[World]:
    service: Service = application.state.gateway.service
    alpha, beta = await make_customer(service, "alpha"), await make_customer(service, "beta")
    for customer in (alpha, beta):
        await service.copilot.ingest(customer.tenant_id, [policy_of(customer.tenant_id)])
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield World(application, client, alpha, beta)
