"""`GET /metrics`: everything, for Prometheus. `GET /metrics/{tenant_id}`: sums of the ledger."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.replies import usage_body
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.authentication import Operator, UsageReader
from compliance_copilot.gateway.documentation import documented
from compliance_copilot.gateway.reply_schemas import UsageSummaryBody
from compliance_copilot.gateway.replying import json_reply
from compliance_copilot.gateway.state import service_of
from compliance_copilot.telemetry import sharing

router = APIRouter(tags=["usage"])
Hours = Annotated[float, Query(gt=0, le=24 * 366, allow_inf_nan=False)]


@router.get(
    "/metrics",
    summary="Every metric of all workers, for Prometheus",
    **documented(str, scopes=[Scope.PLATFORM_ADMIN]),
)
async def exposition(_operator: Operator) -> Response:
    """Return the metrics in Prometheus' text format."""
    text = await asyncio.to_thread(sharing.exposition)
    return Response(text, media_type=sharing.CONTENT_TYPE)


@router.get(
    "/metrics/{tenant_id}",
    summary="What the tenant used, and what it cost",
    **documented(UsageSummaryBody, scopes=[Scope.USAGE_READ], errors=(404, 422, 504)),
)
async def metrics(request: Request, tenant_id: UsageReader, hours: Hours = 24.0) -> Response:
    """Return the sums of the last hours; an empty window gives zeros."""
    return json_reply(usage_body(await service_of(request).copilot.metrics(tenant_id, hours)))
