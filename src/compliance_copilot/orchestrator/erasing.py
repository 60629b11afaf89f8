"""Erasing documents and tenants everywhere, whatever is killed on the way.

The order: the rows and a note of the erasure in one transaction, then what lies outside of the
database, then a look for what is left. Each step may be repeated; a sweep goes on with what a
killed process began.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID

from compliance_copilot.core.clock import new_id, utc_now
from compliance_copilot.core.errors import CopilotError, NotFound
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.documents import DocumentStore
from compliance_copilot.rag.replication import Replication
from compliance_copilot.tenancy.erasures import (
    DOCUMENT,
    TENANT,
    ErasureStore,
    Receipt,
    Waiting,
)

SWEEP_SECONDS = 5.0
RETENTION = "document_retention_days"
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Erasing:
    """Erases, and answers how far it is. `forget` takes a tenant out of memory and files."""

    store: ErasureStore
    documents: DocumentStore
    replication: Replication
    forget: Callable[[TenantId], Awaitable[object]]
    bring_into_force: Callable[[TenantId], Awaitable[None]]

    async def document(
        self, tenant_id: TenantId, document_id: str, *, requested_by: str
    ) -> Receipt:
        """Erase a document with all its versions and all that shows it.

        Raises NotFound, or Conflict under legal hold.
        """
        erasure = _new(tenant_id, DOCUMENT, document_id, requested_by)

        async def begin(connection: object, chunk_ids: list[UUID], versions: int) -> None:
            counted = replace(erasure, counts={"documents": 1, "document_versions": versions})
            await self.store.begin_document(connection, counted, chunk_ids)

        await self.documents.delete(tenant_id, document_id, begin=begin)
        return await self._go_on(tenant_id, erasure.erasure_id)

    async def tenant(self, tenant_id: TenantId, *, requested_by: str) -> Receipt:
        """End a tenant and erase all it has. Raises UnknownTenant, or Conflict under legal hold."""
        erasure = _new(tenant_id, TENANT, tenant_id, requested_by)
        await self.store.begin_tenant(erasure)
        return await self._go_on(tenant_id, erasure.erasure_id)

    async def advance(self, tenant_id: TenantId, erasure_id: UUID) -> Receipt:
        """Take what is left, outside of the database too, and look whether that was all."""
        await self.store.erase_rows(tenant_id, erasure_id)
        await self.forget(tenant_id)
        await self.replication.flush(tenant_id)
        await self.replication.drop_retired()
        return await self.store.conclude(tenant_id, erasure_id)

    async def sweep(self) -> int:
        """Go on with unfinished erasures, begin those of documents whose time is over, bring into
        force what is due; return how many.
        """
        done = 0
        for waiting in await self.store.waiting():
            try:
                await self._do(waiting)
                done += 1
            except NotFound:  # another worker was quicker
                continue
            except CopilotError as error:
                LOG.warning("put off: %s", error.code)
        return done

    async def _do(self, waiting: Waiting) -> None:
        if waiting.erasure_id is not None:
            await self.advance(waiting.tenant_id, waiting.erasure_id)
        elif waiting.document_id is not None:
            await self.document(waiting.tenant_id, waiting.document_id, requested_by=RETENTION)
        else:
            await self.bring_into_force(waiting.tenant_id)

    async def _go_on(self, tenant_id: TenantId, erasure_id: UUID) -> Receipt:
        try:
            return await self.advance(tenant_id, erasure_id)
        except CopilotError as error:  # begun and noted: the sweep goes on with it
            LOG.warning("an erasure is put off: %s", error.code)
            return await self.store.require(tenant_id, erasure_id)


def _new(tenant_id: TenantId, what: str, subject: str, requested_by: str) -> Receipt:
    return Receipt(
        new_id(), tenant_id, what, subject, requested_by, utc_now(), None, "erasing", {}, {}
    )


@asynccontextmanager
async def finishing(
    erasing: Erasing, *, every_seconds: float = SWEEP_SECONDS
) -> AsyncIterator[None]:
    """Sweep while the context lasts."""
    task = asyncio.create_task(_for_ever(erasing, every_seconds), name="finish erasures")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _for_ever(erasing: Erasing, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await erasing.sweep()
        except CopilotError as error:
            LOG.warning("put off: %s", error.code)
