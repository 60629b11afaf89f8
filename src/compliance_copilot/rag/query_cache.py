"""Answers of a moment ago, in this process's memory: the same question of one tenant is paid once.

Each tenant has a shelf of its own, bounded in entries and bytes; when all shelves together are too
large, the largest gives way, so no tenant pushes out another that uses little. Bytes are kept and
not objects: thousands of replies are a hundred thousand objects, and a garbage collection walks
through all of them while every request waits. Must not enter: what a hit costs, who may have one.
"""

import asyncio
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from compliance_copilot.core.vocabulary import EffectiveConfig, QueryReply, TenantId

_BYTES_PER_ENTRY = 2_000
"""The key and what holds an entry."""
_REPLY = TypeAdapter(QueryReply)


@dataclass(frozen=True, slots=True)
class CacheKey:
    """All that an answer depends on. `narrowing`: filters and instant, when there are any."""

    tenant_id: TenantId
    corpus_version: int
    config: EffectiveConfig
    question: str
    narrowing: Hashable = None


def normalized(question: str) -> str:
    """Return a question as it is compared: composed letters, single spaces; case counts."""
    return " ".join(unicodedata.normalize("NFC", question).split())


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """How much is kept in one process; 0 bytes keeps nothing."""

    total_bytes: int = 64 * 2**20
    entries_per_tenant: int = 1_000
    share_of_a_tenant: float = 0.25


@dataclass(slots=True)
class _Entry:
    written: bytes
    expires_at_seconds: float

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return len(self.written) + _BYTES_PER_ENTRY


@dataclass(slots=True)
class _Shelf:
    corpus_version: int
    entries: OrderedDict[CacheKey, _Entry] = field(default_factory=OrderedDict)
    size: int = 0

    def take_out(self, key: CacheKey) -> int:
        """Forget an entry; return its size."""
        entry = self.entries.pop(key)
        self.size -= entry.size
        return entry.size


class QueryCache:
    """Replies by key, and the questions that are being answered right now."""

    def __init__(
        self,
        limits: CacheLimits = CacheLimits(),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._now = now
        self._shelves: dict[TenantId, _Shelf] = {}
        self._flights: dict[CacheKey, Flight] = {}
        self.size = 0
        """Bytes of all shelves, as estimated."""

    def get(self, key: CacheKey) -> QueryReply | None:
        """Return a reply that is still good, None when there is none."""
        shelf = self._shelf(key)
        entry = shelf.entries.get(key) if shelf else None
        if shelf is None or entry is None:
            return None
        if entry.expires_at_seconds <= self._now():
            self.size -= shelf.take_out(key)
            return None
        shelf.entries.move_to_end(key)
        return _REPLY.validate_json(entry.written)

    def corpus_version(self, tenant_id: TenantId) -> int | None:
        """Return the version of the corpus that the tenant's replies were made from."""
        shelf = self._shelves.get(tenant_id)
        return None if shelf is None else shelf.corpus_version

    def put(self, key: CacheKey, reply: QueryReply, *, seconds: float) -> None:
        """Keep a reply for so long; what is used least goes first when there is no room."""
        limits = self._limits
        entry = _Entry(_written(reply), self._now() + seconds)
        most = int(limits.total_bytes * limits.share_of_a_tenant)
        shelf = self._shelf(key)
        if entry.size > most or shelf is None:
            return
        if key in shelf.entries:
            self.size -= shelf.take_out(key)
        shelf.entries[key] = entry
        shelf.size += entry.size
        self.size += entry.size
        while len(shelf.entries) > limits.entries_per_tenant or shelf.size > most:
            self.size -= shelf.take_out(next(iter(shelf.entries)))
        while self.size > limits.total_bytes:
            largest = max(self._shelves.values(), key=lambda s: s.size)
            self.size -= largest.take_out(next(iter(largest.entries)))

    def forget(self, tenant_id: TenantId) -> None:
        """Drop everything of a tenant that this process holds."""
        shelf = self._shelves.pop(tenant_id, None)
        self.size -= shelf.size if shelf else 0

    def flight(self, key: CacheKey) -> "Flight | None":
        """Return the flight that answers this question right now, None when there is none."""
        return self._flights.get(key)

    def take_off(self, key: CacheKey) -> "Flight":
        """Begin answering a question; until it lands, others wait for it."""
        flight = self._flights[key] = Flight()
        return flight

    def land(self, key: CacheKey, reply: QueryReply | None) -> None:
        """End a flight; None when it failed, and one of those who wait takes over."""
        flight = self._flights.pop(key)
        flight.reply = reply
        flight.landed.set()

    def _shelf(self, key: CacheKey) -> _Shelf | None:
        """Return the tenant's shelf at this corpus version; a newer one empties it."""
        shelf = self._shelves.get(key.tenant_id)
        if shelf is None or shelf.corpus_version < key.corpus_version:
            self.forget(key.tenant_id)
            shelf = self._shelves[key.tenant_id] = _Shelf(key.corpus_version)
        return shelf if shelf.corpus_version == key.corpus_version else None


@dataclass(slots=True)
class Flight:
    """A question that is being answered; `reply` is there when it went well."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    reply: QueryReply | None = None


def _written(reply: QueryReply) -> bytes:
    """Return all of a reply but what is not its own: how it was sent, what was read for it."""
    return orjson.dumps(reply, default=_plain)


def _plain(value: object) -> str | None:
    # The driver's own kind of UUID; None stands for what is not the reply's own.
    return str(value) if isinstance(value, UUID) else None
