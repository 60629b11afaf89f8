"""A request goes to the worker with the shorter queue, and its connection with it.

Two servers in one process stand for two workers: real sockets, real connections of `serve`.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import uvicorn

from compliance_copilot.gateway.connections import BoundedConnection
from compliance_copilot.gateway.peers import LEAD, MOST_BYTES, Peers
from compliance_copilot.gateway.refusing import ENTRANCE
from tests.gateway.test_guards import Counted

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
A_QUEUE = 2 * LEAD


class Worker:
    """A server, what it was asked and what it tells its peers."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted
        self.clients: list[Client] = []
        self.server = uvicorn.Server(
            uvicorn.Config(
                counted, port=0, http=BoundedConnection, ws="none", log_config=None, lifespan="on"
            )
        )

    @property
    def peers(self) -> Peers:
        found: Peers = self.server.lifespan.state[ENTRANCE].peers
        return found

    def look_away(self) -> socket.socket:
        """Take in nothing of what is passed; return where it lies."""
        inbox = self.peers._inbox
        assert inbox is not None
        asyncio.get_running_loop().remove_reader(inbox)
        return inbox

    @property
    def asked(self) -> int:
        return len(self.counted.asked)

    @asynccontextmanager
    async def serving(self, folder: Path, name: str) -> AsyncIterator[None]:
        serving = asyncio.create_task(self.server._serve())
        while not self.server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        self.peers.open(folder, name)
        try:
            yield
        finally:
            for client in self.clients:
                client.writer.close()
            self.server.should_exit = True
            await serving

    async def connected(self) -> "Client":
        host, port = self.server.servers[0].sockets[0].getsockname()[:2]
        self.clients.append(Client(*await asyncio.open_connection(host, port)))
        return self.clients[-1]


class Client:
    """A connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, request: bytes) -> None:
        self.writer.write(request)

    async def reply(self) -> int:
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await self.reader.readexactly(int(length))
        return int(head[9:12])

    async def ask(self, request: bytes = HEALTH) -> int:
        self.send(request)
        return await self.reply()


@pytest.fixture
async def workers(
    make_application: Callable[[], Any], tmp_path: Path
) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two that know each other: each has had a connection."""
    one, two = (Worker(Counted(make_application())) for _ in range(2))
    folder = tmp_path / "peers"
    async with one.serving(folder, "1"), two.serving(folder, "2"):
        for worker in (two, one):
            assert await (await worker.connected()).ask() == 200
        one.peers._look(one.peers._own)  # type: ignore[arg-type]
        for worker in (one, two):
            worker.counted.asked.clear()
        yield one, two


async def test_a_request_goes_where_fewer_wait_and_its_connection_stays_there(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    client = await one.connected()
    assert await client.ask() == 200
    assert (one.asked, two.asked) == (1, 0)
    one.peers.waiting = A_QUEUE
    assert await client.ask() == 200
    assert (one.asked, two.asked) == (1, 1)
    one.peers.waiting = 0
    assert await client.ask() == 200
    assert (one.asked, two.asked) == (1, 2)
    assert len(one.server.server_state.connections) < len(two.server.server_state.connections)


async def test_a_first_request_is_passed_too_body_and_all(
    workers: tuple[Worker, Worker], key: str
) -> None:
    one, two = workers
    body = b'{"query": "How is customer data at rest encrypted?"}'
    head = (
        f"POST /query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    one.peers.waiting = A_QUEUE
    client = await one.connected()
    client.send(head + body[:10])  # the rest comes when the other has it
    await asyncio.sleep(0.2)
    client.send(body[10:])
    assert await client.reply() == 200
    assert (one.asked, two.asked) == (0, 1)


@pytest.mark.parametrize(("here", "there"), [(0, 0), (1, 0), (A_QUEUE, A_QUEUE - 1)])
async def test_it_stays_when_the_other_has_hardly_fewer(
    workers: tuple[Worker, Worker], here: int, there: int
) -> None:
    one, two = workers
    one.peers.waiting, two.peers.waiting = here, there
    assert await (await one.connected()).ask() == 200
    assert (one.asked, two.asked) == (1, 0)


async def test_what_is_not_the_beginning_of_a_request_stays(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    client = await one.connected()
    client.send(HEALTH[:10])
    await asyncio.sleep(0.1)
    one.peers.waiting = A_QUEUE
    client.send(HEALTH[10:])
    assert await client.reply() == 200
    assert (one.asked, two.asked) == (1, 0)
    # A long one goes as a whole.
    long = HEALTH[:-2] + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 8000) for n in range(7)) + b"\r\n"
    assert len(long) < MOST_BYTES
    assert await client.ask(long) == 200
    assert (one.asked, two.asked) == (1, 1)


async def test_nothing_more_is_passed_to_one_that_has_not_taken_the_last(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    inbox = two.look_away()  # it is at work
    one.peers.waiting = A_QUEUE
    first, second = [await one.connected() for _ in range(2)]
    first.send(HEALTH)
    await asyncio.sleep(0.1)
    assert await second.ask() == 200
    assert (one.asked, two.asked) == (1, 0)
    two.peers._take_in(inbox)
    assert await first.reply() == 200
    assert (one.asked, two.asked) == (1, 1)


async def test_one_that_died_is_forgotten_and_the_request_served(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    two.look_away().close()  # as the kernel does it; its files stay
    two.peers._inbox = None
    one.peers.waiting = A_QUEUE
    client = await one.connected()
    assert [await client.ask() for _ in range(3)] == [200] * 3
    assert (one.asked, two.asked) == (3, 0)
    assert not one.peers._peers


async def test_one_that_lives_is_known_after_a_failure_of_the_system(
    workers: tuple[Worker, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = workers
    client = await one.connected()
    one.peers.waiting = A_QUEUE
    with monkeypatch.context() as patch:
        patch.setattr("socket.socket.sendmsg", Mock(side_effect=OSError(errno.ENOBUFS, "full")))
        assert await client.ask() == 200
    assert (one.asked, two.asked) == (1, 0)
    assert await client.ask() == 200
    assert (one.asked, two.asked) == (1, 1)


async def test_one_that_leaves_serves_what_it_has_and_gets_no_more(
    workers: tuple[Worker, Worker],
) -> None:
    one, two = workers
    two.look_away()
    one.peers.waiting = A_QUEUE
    first, second = [await one.connected() for _ in range(2)]
    first.send(HEALTH)
    await asyncio.sleep(0.1)
    two.peers.leave()
    assert await first.reply() == 200
    assert await second.ask() == 200
    assert (one.asked, two.asked) == (1, 1)


async def test_a_worker_without_a_folder_or_with_too_long_a_path_is_alone(tmp_path: Path) -> None:
    for folder in (None, tmp_path / ("deep" * 30)):
        peers = Peers()
        peers.open(folder)
        peers.join(lambda _: asyncio.Protocol())
        peers.waiting = A_QUEUE
        assert not peers.passed(0, HEALTH)
        peers.leave()


def test_what_one_tells_the_other_sees(tmp_path: Path) -> None:
    """Two processes: the number is in a mapped file."""
    peers = Peers()
    peers.open(tmp_path, "1")
    if (child := os.fork()) == 0:
        with suppress(BaseException):
            peers.waiting = 7
        os._exit(0)
    os.waitpid(child, 0)
    assert peers.waiting == 7
