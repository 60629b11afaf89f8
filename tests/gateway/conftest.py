"""The application over a service made by hand, and clients of it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from compliance_copilot.core.errors import CopilotError
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from tests.gateway.fixed_service import PLATFORM_SECRET, Service


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def key(service: Service) -> str:
    return service.keys.add("acme_corp")


@pytest.fixture
def platform_secret() -> str:
    return PLATFORM_SECRET


@pytest.fixture
def deployment() -> Deployment:
    return Deployment("development", "The demo keys lie in /data/keys.")


@pytest.fixture
def make_application(service: Service, deployment: Deployment) -> Callable[[], FastAPI]:
    @asynccontextmanager
    async def open_service() -> AsyncIterator[Any]:
        yield service

    return lambda: build_application(open_service, lambda: deployment)


@pytest.fixture
def application(make_application: Callable[[], FastAPI]) -> FastAPI:
    return make_application()


@pytest.fixture
async def anonymous(application: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=transport, base_url="http://copilot") as client,
    ):
        yield client


@pytest.fixture
def client(anonymous: httpx.AsyncClient, key: str) -> httpx.AsyncClient:
    anonymous.headers["Authorization"] = f"Bearer {key}"
    return anonymous


@pytest.fixture
def failing(service: Service) -> Callable[[CopilotError | Exception], None]:
    def fail(error: BaseException) -> None:
        service.copilot.fault = error

    return fail
