"""A tenant's share of the pool: a burst of one leaves connections for the others."""

import asyncio
from dataclasses import dataclass

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import TenantId


class Slots:
    """At most so many connections at once for each tenant; further work of it waits its turn."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.waiting = 0
        self._rooms: dict[TenantId, _Room] = {}

    def one_of(self, tenant_id: TenantId, deadline: Deadline) -> "_Slot":
        """Return a context that holds one of the tenant's slots."""
        return _Slot(self, tenant_id, deadline)

    async def take(self, tenant_id: TenantId, deadline: Deadline) -> None:
        """Take one of the tenant's slots as soon as there is one. Raises TimeoutError."""
        room = self._rooms.get(tenant_id)
        if room is None:
            room = self._rooms[tenant_id] = _Room(asyncio.Semaphore(self._most))
        room.users += 1
        self.waiting += 1
        try:
            if room.slots.locked():
                async with asyncio.timeout(deadline.remaining_seconds()):
                    await room.slots.acquire()
            else:
                await room.slots.acquire()
        except BaseException:
            self._leave(tenant_id, room)
            raise
        finally:
            self.waiting -= 1

    def give_back(self, tenant_id: TenantId) -> None:
        """Give one back; what nobody holds or awaits is not kept."""
        room = self._rooms[tenant_id]
        room.slots.release()
        self._leave(tenant_id, room)

    def _leave(self, tenant_id: TenantId, room: "_Room") -> None:
        room.users -= 1
        if not room.users:
            del self._rooms[tenant_id]


@dataclass(slots=True)
class _Room:
    """The slots of one tenant, and how many hold or await one."""

    slots: asyncio.Semaphore
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Slot:
    """The context of one slot."""

    slots: Slots
    tenant_id: TenantId
    deadline: Deadline

    async def __aenter__(self) -> None:
        await self.slots.take(self.tenant_id, self.deadline)

    async def __aexit__(self, *_: object) -> None:
        self.slots.give_back(self.tenant_id)
