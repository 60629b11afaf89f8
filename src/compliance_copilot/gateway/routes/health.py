"""`GET /health` from memory, `GET /ready` by asking every part."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.vocabulary import Operation
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.record_schemas import Health, ReadinessBody
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.state import NOT_STARTED, gateway_of

router = APIRouter(tags=["health"])


@router.get("/health", summary="Is the process alive?", **documented(Health))
async def health(request: Request) -> Response:
    """Tell from memory that the process answers, and which services it holds."""
    gateway = gateway_of(request)
    service = gateway.service
    held = {
        operation.value: service is not None and service.skipped(operation) is None
        for operation in Operation
    }
    return json_reply(
        {
            "status": "healthy",
            "environment": gateway.deployment.environment,
            "services": held,
            "version": gateway.version,
        }
    )


_READY = documented(ReadinessBody)
_READY["responses"][503] = {"model": ReadinessBody, "description": "It cannot work."}


@router.get("/ready", summary="Can it work?", **_READY)
async def ready(request: Request) -> Response:
    """Tell which parts are ready, limited or down, and why; 503 when it cannot work."""
    service = gateway_of(request).service
    if service is None:
        part = {"status": "down", "detail": NOT_STARTED}
        return json_reply({"status": "down", "components": {"service": part}}, status=503)
    if gateway_of(request).draining:
        part = {"status": "down", "detail": "It is leaving; what is under way is finished."}
        return json_reply({"status": "down", "components": {"service": part}}, status=503)
    readiness = await service.status()
    return json_reply(
        {"status": readiness.status, "components": readiness.components},
        status=503 if readiness.status == "down" else 200,
    )
