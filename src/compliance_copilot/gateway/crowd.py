"""Overload is shed at the door, before anything is parsed or looked up.

Two things tell it: the event loop is late, by its timers or by those who wait for their turn in it,
or many wait for the database. Work of this process makes them so; a request that waits for a
hosted model, a reader or a slow sender does not. At first those are refused who hold more than a
share, so that a quiet caller gets in beside one that floods; when it is far too much, everybody.
As in CoDel (Nichols & Jacobson 2012) a late moment is
a burst, and a delay that stands is a queue.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ALWAYS_SERVED = frozenset({"/health", "/ready", "/metrics"})
TICK_SECONDS = 0.01
LATE_SECONDS, FAR_TOO_LATE_SECONDS = 0.05, 0.25
STANDING_TICKS = 5
Headers = Sequence[tuple[bytes, bytes]]


class Standing:
    """Tells a delay that stands from one that passes: so many bad ticks more than good ones."""

    def __init__(self) -> None:
        self._bad = 0

    def note(self, *, bad: bool) -> None:
        """Take the next measurement."""
        self._bad = min(STANDING_TICKS, max(0, self._bad + (1 if bad else -1)))

    @property
    def stands(self) -> bool:
        """Whether the delay stands; near its bound each tick decides anew."""
        return self._bad == STANDING_TICKS

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self._bad == 0


class Lateness:
    """How late the event loop calls what is due, measured while somebody is inside.

    `waited` tells for how long the next one in turn has waited for it, in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        waited: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock = clock
        self._waited = waited
        self._due = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self.late, self.far_too_late = Standing(), Standing()

    def watch(self, busy: Callable[[], bool]) -> None:
        """Measure from now on, until nobody is `busy`, asked each time, and no delay is left."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._next(busy)

    def _next(self, busy: Callable[[], bool]) -> None:
        self._due = self._clock() + TICK_SECONDS
        asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick, busy)

    def _tick(self, busy: Callable[[], bool]) -> None:
        self.note(self._clock() - self._due + self._waited())
        if busy() or not self.late.is_over:
            self._next(busy)
        else:
            self._loop = None

    def note(self, late_seconds: float) -> None:
        """Take a measurement."""
        self.late.note(bad=late_seconds > LATE_SECONDS)
        self.far_too_late.note(bad=late_seconds > FAR_TOO_LATE_SECONDS)


class Shares:
    """Who is inside how often, by the key that was presented; who is gone is not kept."""

    def __init__(self) -> None:
        self._held: dict[bytes, int] = {}
        self.inside = 0

    def enter(self, caller: bytes) -> None:
        """Count one in."""
        self.inside += 1
        self._held[caller] = self._held.get(caller, 0) + 1

    def leave(self, caller: bytes) -> None:
        """Count one out."""
        self.inside -= 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]

    def holds_much(self, caller: bytes) -> bool:
        """Tell whether a caller has half of what the callers inside have on average, or more.

        Whoever is not inside holds nothing: a quiet one is let in beside any that floods.
        """
        held = self._held.get(caller, 0)
        return held > 0 and 2 * held * len(self._held) >= self.inside

    def holds_half(self, caller: bytes, most: int) -> bool:
        """Tell whether a caller has half of all places, which is the most for one."""
        return 2 * self._held.get(caller, 0) >= max(2, most)


@dataclass(frozen=True, slots=True)
class Queues:
    """Who waits for the database: many behind their own tenant's, or many behind everybody's."""

    long: Callable[[], bool]
    far_too_long: Callable[[], bool]


class Crowd:
    """Decides who is let in: what can be served in time. Asked on the wire and behind it."""

    def __init__(
        self, most: Callable[[], int], queues: Queues, lateness: Lateness | None = None
    ) -> None:
        self._most = most
        self._queues = queues
        self._lateness = lateness or Lateness()
        self._shares = Shares()
        self.waiting = Standing()
        """Whether many wait for the database behind their own tenant's."""

    def too_much(self, path: str, headers: Headers) -> str | None:
        """Return what is too much for a request, None to let it in, by what its head shows.

        `places`: all are taken; `share`: one caller has half of them; `loop`: the event loop is
        late; `database`: many wait for it.
        """
        if path in ALWAYS_SERVED:
            return None
        caller = _caller(headers)
        shares, lateness, queues = self._shares, self._lateness, self._queues
        if shares.inside >= self._most():
            return "places"
        if shares.holds_half(caller, self._most()):
            return "share"
        much = shares.holds_much(caller)
        if lateness.far_too_late.stands or (much and lateness.late.stands):
            return "loop"
        return "database" if queues.far_too_long() or (much and self.waiting.stands) else None

    def enter(self, headers: Headers) -> None:
        """Count in who was let in: at once, so that the next decision knows of it."""
        self._shares.enter(_caller(headers))
        self._lateness.watch(self._is_busy)

    def leave(self, headers: Headers) -> None:
        """Count out who was counted in."""
        self._shares.leave(_caller(headers))

    def note(self) -> None:
        """Take a measurement of who waits for the database."""
        self.waiting.note(bad=self._queues.long())

    def _is_busy(self) -> bool:
        self.note()
        return self._shares.inside > 0 or not self.waiting.is_over


def _caller(headers: Headers) -> bytes:
    """Return what stands for a caller before anybody is looked up: the key, true or not."""
    for name, value in headers:
        if name in (b"authorization", b"x-api-key"):
            return value
    return b""
