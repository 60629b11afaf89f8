"""Builds the application: routes, error handlers, the door, the lifespan. Starts nothing."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import CopilotError
from compliance_copilot.gateway import problems
from compliance_copilot.gateway.crowd import Crowd, Lateness, Queues
from compliance_copilot.gateway.documentation import add_docs
from compliance_copilot.gateway.draining import noticing
from compliance_copilot.gateway.guards import Patience
from compliance_copilot.gateway.middleware import Door
from compliance_copilot.gateway.peers import Peers
from compliance_copilot.gateway.refusing import Entrance, Turnstile
from compliance_copilot.gateway.routes import (
    answers,
    audit,
    configuration,
    conversations,
    documents,
    erasures,
    files,
    health,
    ingest,
    keys,
    metrics,
    provider_keys,
    query,
    sync,
    tenants,
    usage,
)
from compliance_copilot.gateway.state import Deployment, Gateway, ServiceOpener
from compliance_copilot.gateway.turns import Turns

ROUTERS = tuple(
    module.router
    for module in (
        query,
        answers,
        conversations,
        ingest,
        sync,
        files,
        documents,
        erasures,
        metrics,
        usage,
        tenants,
        keys,
        provider_keys,
        configuration,
        audit,
        health,
    )
)
_ABOUT = (
    "Answers from a tenant's own documents, each with quotes that can be checked."
    " The API key names the tenant."
)


def build_application(
    open_service: ServiceOpener, describe: Callable[[], Deployment] = Deployment
) -> FastAPI:
    """Return the application. `open_service` is entered by the lifespan, and only there.

    `describe` is asked once, at start. A SetupError of either stops the start with one line.
    """
    gateway, peers = Gateway(describe, _version()), Peers()
    app = FastAPI(
        title="Compliance Copilot",
        version=gateway.version,
        description=_ABOUT,
        lifespan=_lifespan(gateway, open_service, peers),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours are at the door
    )
    app.state.gateway = gateway
    # As they stand: an included router is looked through twice for each request.
    app.router.routes.extend(route for router in ROUTERS for route in router.routes)
    add_docs(app)
    app.add_exception_handler(CopilotError, problems.on_copilot_error)
    app.add_exception_handler(RequestValidationError, problems.on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(Patience)
    app.add_middleware(Door, is_leaving=lambda: gateway.draining)
    queues = Queues(gateway.is_queueing, gateway.is_crowded)
    turns = Turns(peers)
    lateness = Lateness(waited=lambda: turns.waited_seconds)
    crowd = Crowd(lambda: gateway.deployment.most_in_flight, queues, lateness)
    app.add_middleware(Turnstile, entrance=Entrance(crowd, turns, peers))
    return app


def _lifespan(
    gateway: Gateway, open_service: ServiceOpener, peers: Peers
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        gateway.check()
        async with open_service() as service:
            gateway.service = service
            peers.open(gateway.deployment.peers_folder)
            try:
                with noticing(gateway, gateway.deployment.drain_notice_seconds, peers.leave):
                    yield
            finally:
                peers.leave()
                gateway.service = None

    return live


async def _on_http_exception(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        # Starlette names the methods of the first route with this path only.
        methods = allowed_methods(request.scope["path"]) or {"GET", "HEAD"}
        error.headers = {**(error.headers or {}), "Allow": ", ".join(sorted(methods))}
    return await problems.on_http_exception(request, error)


def allowed_methods(path: str) -> set[str]:
    """Return the methods that some route serves for a path."""
    return {method for pattern, methods in _PATHS if pattern.match(path) for method in methods}


_PATHS: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (route.path_regex, frozenset(route.methods or ()))
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
)


def _version() -> str:
    try:
        return version("compliance-copilot")
    except PackageNotFoundError:
        return "0.0.0"
