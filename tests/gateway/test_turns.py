"""Requests begin as they came, one in each turn of the event loop."""

import asyncio

from compliance_copilot.gateway.peers import Peers
from compliance_copilot.gateway.turns import Turns


class Worker:
    """Requests that note when they begin and when what they wait for has come."""

    def __init__(self) -> None:
        self.peers = Peers()
        self.turns = Turns(self.peers)
        self.seen: list[str] = []

    async def serve(self, name: str) -> None:
        await self.turns.begin()
        self.seen.append(f"{name} begins")
        await asyncio.sleep(0)  # a round trip that is over at once
        self.seen.append(f"{name} ends")

    def ask(self, name: str) -> asyncio.Task[None]:
        self.turns.expect()
        return asyncio.create_task(self.serve(name))


async def test_what_is_ready_is_served_between_two_that_begin() -> None:
    worker = Worker()
    await asyncio.gather(*(worker.ask(name) for name in "abcd"))
    begun = [line for line in worker.seen if "begins" in line]
    assert begun == [f"{name} begins" for name in "abcd"]
    # Without turns all four would have begun before the first had ended.
    assert worker.seen.index("a ends") < worker.seen.index("c begins")
    assert worker.seen.index("b ends") < worker.seen.index("d begins")


async def test_who_comes_alone_begins_at_once() -> None:
    worker = Worker()
    for name in "ab":
        task = worker.ask(name)
        await asyncio.sleep(0)
        assert worker.seen[-1] == f"{name} begins"
        await task


async def test_those_who_have_come_and_not_begun_are_counted() -> None:
    worker = Worker()
    tasks = [worker.ask(name) for name in "abc"]
    assert worker.peers.waiting == 3
    assert worker.turns.waited_seconds == 0.0
    await asyncio.sleep(0)
    assert worker.peers.waiting == 2
    assert worker.turns.waited_seconds > 0.0
    await asyncio.gather(*tasks)
    assert worker.peers.waiting == 0
    assert worker.turns.waited_seconds == 0.0


async def test_one_who_leaves_while_waiting_is_passed_over() -> None:
    worker = Worker()
    tasks = [worker.ask(name) for name in "abcd"]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [line for line in worker.seen if "begins" in line] == [
        "a begins",
        "c begins",
        "d begins",
    ]
    assert worker.peers.waiting == 0
