"""Overload is shed early: by what stands in a queue here, and first from those who hold much."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from compliance_copilot.gateway import crowd
from compliance_copilot.gateway.crowd import (
    FAR_TOO_LATE_SECONDS,
    LATE_SECONDS,
    STANDING_TICKS,
    TICK_SECONDS,
    Crowd,
    Lateness,
    Queues,
    Standing,
)
from compliance_copilot.gateway.peers import Peers
from compliance_copilot.gateway.refusing import Entrance, Turnstile
from compliance_copilot.gateway.turns import Turns

PROMPT, LATE, FAR_TOO_LATE = 0.001, 2 * LATE_SECONDS, 2 * FAR_TOO_LATE_SECONDS


@dataclass
class House:
    """An application whose requests stay until they are let go, behind its door."""

    most: int = 100
    long: bool = False
    far_too_long: bool = False
    lateness: Lateness = field(default_factory=Lateness)
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    inside: list[asyncio.Task[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        queues = Queues(lambda: self.long, lambda: self.far_too_long)
        self.crowd = Crowd(lambda: self.most, queues, self.lateness)
        self.door = Turnstile(self._serve, Entrance(self.crowd, Turns(alone := Peers()), alone))

    async def _serve(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await self.leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, key: str, path: str = "/query") -> int:
        """Return the status that a caller gets."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        headers = [(b"host", b"x"), (b"authorization", key.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await self.door(scope, receive, send)
        return int(sent[0]["status"])

    async def enter(self, key: str, times: int = 1) -> None:
        """Let requests in that stay."""
        tasks = [asyncio.create_task(self.ask(key)) for _ in range(times)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        self.inside += tasks

    async def gets_in(self, key: str) -> bool:
        """Tell whether one more of a caller is let in; it stays."""
        task = asyncio.create_task(self.ask(key))
        await asyncio.sleep(0)
        if task.done():
            assert await task == 503
            return False
        self.inside.append(task)
        return True

    def measure(self, late_seconds: float, times: int = STANDING_TICKS) -> None:
        """Let so many ticks be so late."""
        for _ in range(times):
            self.lateness.note(late_seconds)
            self.crowd.note()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(crowd, "TICK_SECONDS", 3600.0)  # the test measures
    house = House()
    yield house
    for task in house.inside:
        task.cancel()


def test_a_delay_that_passes_is_a_burst_and_one_that_stands_is_not() -> None:
    delay = Standing()
    for bad in [True, False] * 20:
        delay.note(bad=bad)
        assert not delay.stands
    for _ in range(STANDING_TICKS):
        assert not delay.stands
        delay.note(bad=True)
    assert delay.stands
    delay.note(bad=False)
    assert not delay.stands  # one good tick lets in again
    delay.note(bad=True)
    assert delay.stands  # and one bad tick closes, while the queue is not gone
    for _ in range(STANDING_TICKS):
        assert not delay.is_over
        delay.note(bad=False)
    assert delay.is_over


async def test_the_clock_tells_how_late_a_tick_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "TICK_SECONDS", 0.0)
    now, ticks = 0.0, 0

    def clock() -> float:
        nonlocal now
        now += LATE  # each look at the clock is late by as much
        return now

    def busy() -> bool:
        nonlocal ticks
        ticks += 1
        return ticks < 2 * STANDING_TICKS

    lateness = Lateness(clock)
    lateness.watch(busy)
    while not lateness.late.stands:  # noqa: ASYNC110 - the loop's own ticks
        await asyncio.sleep(0)
    assert not lateness.far_too_late.stands


async def test_who_waits_for_a_turn_makes_the_loop_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "TICK_SECONDS", 0.0)
    lateness = Lateness(waited=lambda: LATE)
    prompt = Lateness(waited=lambda: 0.0)
    for watched in (lateness, prompt):
        busy = iter([True] * 2 * STANDING_TICKS)
        watched.watch(lambda busy=busy: next(busy, False))  # type: ignore[misc]
        for _ in range(STANDING_TICKS):
            await asyncio.sleep(0.001)
    assert lateness.late.stands
    assert not prompt.late.stands


async def test_a_quiet_caller_gets_in_beside_one_that_floods(house: House) -> None:
    await house.enter("noisy", 40)
    await house.enter("quiet")
    house.measure(LATE)
    assert not await house.gets_in("noisy")
    assert await house.gets_in("quiet")
    assert await house.gets_in("another")
    house.measure(PROMPT, times=1)
    assert await house.gets_in("noisy")


async def test_what_is_too_much_is_told(house: House) -> None:
    headers = [(b"x-api-key", b"quiet")]
    assert house.crowd.too_much("/query", headers) is None
    house.measure(FAR_TOO_LATE)
    assert house.crowd.too_much("/query", headers) == "loop"
    assert house.crowd.too_much("/metrics", headers) is None
    house.measure(PROMPT)
    house.far_too_long = True
    assert house.crowd.too_much("/query", headers) == "database"
    house.far_too_long, house.most = False, 2
    await house.enter("quiet")
    assert house.crowd.too_much("/query", [(b"authorization", b"quiet")]) == "share"
    await house.enter("other")
    assert house.crowd.too_much("/query", headers) == "places"


async def test_callers_who_flood_alike_are_refused_alike(house: House) -> None:
    for number in range(10):
        await house.enter(f"tenant{number}", 6)
    house.measure(LATE)
    assert [await house.gets_in(f"tenant{n}") for n in range(10)] == [False] * 10


async def test_when_it_is_far_too_late_everybody_is_sent_away_but_the_watchers(
    house: House,
) -> None:
    await house.enter("noisy")
    house.leave.set()
    house.measure(FAR_TOO_LATE)
    assert await house.ask("quiet") == 503
    assert await house.ask("quiet", "/health") == 200
    house.measure(PROMPT, times=1)
    assert await house.ask("quiet") == 200


async def test_waiting_for_the_database_counts_as_lateness_does(house: House) -> None:
    await house.enter("noisy", 20)
    house.long = True
    house.measure(PROMPT)
    assert not await house.gets_in("noisy")
    assert await house.gets_in("quiet")
    house.far_too_long = True
    assert not await house.gets_in("another")
    house.long = house.far_too_long = False
    house.measure(PROMPT, times=1)
    assert await house.gets_in("noisy")


async def test_a_burst_that_waits_for_the_database_for_a_moment_keeps_nobody_out(
    house: House,
) -> None:
    """Fifty questions for a hosted model at once: admitted in milliseconds, then they only wait."""
    await house.enter("batch", 30)
    house.long = True
    house.measure(PROMPT, times=STANDING_TICKS - 1)
    assert await house.gets_in("batch")
    house.measure(PROMPT, times=1)
    assert not await house.gets_in("batch")


async def test_the_queue_of_the_database_is_measured_until_it_is_gone() -> None:
    house = House(long=True)
    await house.enter("noisy", 2)
    while not house.crowd.waiting.stands:  # noqa: ASYNC110 - the loop's own ticks
        await asyncio.sleep(0.01)
    assert not await house.gets_in("noisy")
    house.leave.set()
    await asyncio.gather(*house.inside)
    house.long = False
    while not house.crowd.waiting.is_over:  # noqa: ASYNC110 - though nobody is inside
        await asyncio.sleep(0.01)
    house.leave.clear()
    await house.enter("noisy", 2)


async def test_requests_that_only_wait_keep_nobody_out(house: House) -> None:
    """A hundred streams of a hosted model: the loop is prompt, the database has no queue."""
    house.most = 256
    await house.enter("streams", 100)
    house.measure(PROMPT)
    assert await house.gets_in("streams")
    assert await house.gets_in("other")


async def test_one_caller_has_at_most_half_of_the_places(house: House) -> None:
    house.most = 8
    await house.enter("noisy", 4)
    assert not await house.gets_in("noisy")
    await house.enter("quiet", 4)
    assert not await house.gets_in("third")  # the house is full


async def test_a_loop_that_is_really_kept_busy_is_found_late() -> None:
    house = House()
    await house.enter("busy", 3)
    while not house.lateness.late.stands:
        time.sleep(2 * LATE_SECONDS)  # noqa: ASYNC251 - the very thing that is to be found
        await asyncio.sleep(TICK_SECONDS / 2)
    assert not await house.gets_in("busy")
    while not house.lateness.late.is_over:  # noqa: ASYNC110 - the loop's own ticks
        await asyncio.sleep(0.01)
    assert await house.gets_in("busy")
    house.leave.set()
    assert await asyncio.gather(*house.inside) == [200] * len(house.inside)
    assert house.crowd._shares._held == {}
