"""Letting a request in and out: limited mode, the tenant's context, admission, the deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from compliance_copilot.billing.metering import Meter
from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import DeadlineExceeded, NotInitialized
from compliance_copilot.core.vocabulary import Operation, Permit, TenantId
from compliance_copilot.orchestrator.rooms import Call, Rooms, Timeouts
from compliance_copilot.tenancy.admission import Ask, Planner
from compliance_copilot.tenancy.context import TenantContext


@dataclass(frozen=True, slots=True)
class Reception:
    """What every request passes on its way in and out."""

    rooms: Rooms
    timeouts: Timeouts

    @asynccontextmanager
    async def entered(self, tenant_id: TenantId, operation: Operation) -> AsyncIterator[None]:
        """Bind the tenant while one request runs. Raises NotInitialized in limited mode."""
        reason = self.rooms.skipped(operation)
        if reason:
            raise NotInitialized(reason)
        await self.rooms.config.finish_writes()
        asked = operation is not Operation.INGEST
        with (
            TenantContext.bind(tenant_id),
            self.rooms.courtesy.question() if asked else nullcontext(),
        ):
            yield

    @asynccontextmanager
    async def metered(self, permit: Permit) -> AsyncIterator[Meter]:
        """Run the work inside the deadline; whatever happens, the row is settled."""
        TenantContext.verify(permit.tenant_id)
        async with self.rooms.metering.request(permit) as meter:
            try:
                async with asyncio.timeout(permit.deadline.remaining_seconds()):
                    yield meter
            except TimeoutError as error:
                raise DeadlineExceeded("The time for this request is over.") from error

    def ask(
        self,
        operation: Operation,
        overrides: Mapping[str, Any] | None,
        call: Call,
        plan: Planner,
    ) -> Ask:
        """Return what admission is asked."""
        ingesting = operation is Operation.INGEST
        limit = self.timeouts.ingest_seconds if ingesting else self.timeouts.query_seconds
        spent = 0.0 if call.since_seconds is None else time.monotonic() - call.since_seconds
        return Ask(
            operation=operation,
            plan=plan,
            timeout_seconds=max(0.0, limit - spent),
            overrides=overrides or {},
            principal=call.principal,
            idempotency=call.idempotency,
            request_id=call.request_id or new_id(),
        )
