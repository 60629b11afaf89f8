"""A tenant's share of the pool: a burst of one leaves connections for the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from compliance_copilot.core.vocabulary import TenantId


class Slots:
    """At most so many connections at once for each tenant; further work of it waits its turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.waiting = 0
        self._rooms: dict[TenantId, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def one_of(self, tenant_id: TenantId) -> AsyncIterator[None]:
        """Hold one of the tenant's slots; what nobody holds or awaits is not kept."""
        room, users = self._rooms.get(tenant_id, (asyncio.Semaphore(self._most), 0))
        self._rooms[tenant_id] = (room, users + 1)
        try:
            self.waiting += 1
            try:
                await room.acquire()
            finally:
                self.waiting -= 1
            try:
                yield
            finally:
                room.release()
        finally:
            room, users = self._rooms[tenant_id]
            if users == 1:
                del self._rooms[tenant_id]
            else:
                self._rooms[tenant_id] = (room, users - 1)
