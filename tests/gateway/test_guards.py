"""What is refused before any work: crowds, slow senders, guesses of keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway import attempts, connections, guards
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.attempts import FailedAttempts
from compliance_copilot.gateway.connections import BoundedConnection
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.tenancy.keys import make_secret


class Counted:
    """The application, and which paths were asked of it."""

    def __init__(self, application: FastAPI) -> None:
        self._application = application
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.asked.append(f"{scope['method']} {scope['path']}")
        await self._application(scope, receive, send)


@pytest.fixture
def counted(application: FastAPI) -> Counted:
    return Counted(application)


@pytest.fixture
async def address(counted: Counted) -> AsyncIterator[tuple[str, int]]:
    """The application behind a real socket, with the connections that `serve` uses."""
    config = uvicorn.Config(
        counted, port=0, http=BoundedConnection, ws="none", log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[:2]
    server.should_exit = True
    await serving


async def dripped(address: tuple[str, int], start: bytes, drop: bytes) -> bytes:
    """Send a start, then a drop again and again until the service has had enough."""
    reader, writer = await asyncio.open_connection(*address)
    heard = b""
    try:
        writer.write(start)
        while not reader.at_eof():
            writer.write(drop)
            await writer.drain()
            try:
                async with asyncio.timeout(0.05):
                    heard += await reader.read(65536)
            except TimeoutError:
                continue
    except ConnectionError:
        pass
    finally:
        writer.close()
    return heard


async def test_a_head_that_drips_is_cut(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    async with asyncio.timeout(15):
        heard = await dripped(address, b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a")
    assert heard == b""
    async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
        for _ in range(3):  # a connection that is kept alive is not cut
            assert (await client.get("/health")).status_code == 200
            await asyncio.sleep(0.2)


async def test_a_head_without_an_end_is_told_its_limit(address: tuple[str, int]) -> None:
    async with asyncio.timeout(15):
        heard = await dripped(address, b"GET / HTTP/1.1\r\nX-Long: ", b"a" * 20_000)
    assert heard == b"" or heard.startswith(b"HTTP/1.1 431")


async def test_a_body_that_drips_is_cut_with_408_and_a_whole_one_is_not(
    address: tuple[str, int], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.3)
    head = (
        f"POST /query HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    async with asyncio.timeout(15):
        heard = await dripped(address, head.encode(), b" ")
    assert heard.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in heard
    async with httpx.AsyncClient(base_url=f"http://{address[0]}:{address[1]}") as client:
        reply = await client.post(
            "/query", json={"query": "a?"}, headers={"Authorization": f"Bearer {key}"}
        )
        assert reply.status_code == 200


async def test_more_at_once_than_fit_are_sent_away_and_the_others_served(service: Any) -> None:
    inside, leave = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def open_service() -> AsyncIterator[Any]:
        yield service

    async def slow(*_: Any, **__: Any) -> list[Any]:
        inside.set()
        await leave.wait()
        return []

    service.copilot.documents.list = slow
    application = build_application(open_service, lambda: Deployment(most_in_flight=1))
    headers = {"Authorization": f"Bearer {service.keys.add('acme_corp')}"}
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=transport, base_url="http://c", headers=headers) as client,
    ):
        first = asyncio.create_task(client.get("/documents"))
        await inside.wait()
        asked = len(service.keys.asked)
        refused = await client.get("/whoami")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["Retry-After"] == "1"
        assert refused.headers["X-Request-ID"] == refused.json()["request_id"]
        assert refused.headers["X-Content-Type-Options"] == "nosniff"
        assert len(service.keys.asked) == asked  # nobody was looked up for it
        assert (await client.get("/health")).status_code == 200
        leave.set()
        assert (await first).status_code == 200
        assert (await client.get("/whoami")).status_code == 200


async def test_while_too_many_wait_for_the_database_nobody_is_let_in(
    anonymous: httpx.AsyncClient, service: Any, key: str, platform_secret: str
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    service.crowd = True
    refused = await anonymous.get("/whoami", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert service.keys.asked == []
    for path in ("/health", "/ready"):
        assert (await anonymous.get(path)).status_code == 200
    watched = await anonymous.get("/metrics", headers={"X-API-Key": platform_secret})
    assert 'route="unmatched",status="503"' in watched.text
    assert 'copilot_shed_total{reason="database"}' in watched.text
    service.crowd = False
    assert (await anonymous.get("/whoami", headers=headers)).status_code == 200


async def test_on_the_wire_one_is_sent_away_with_the_same_words_before_the_application(
    address: tuple[str, int], counted: Counted, anonymous: httpx.AsyncClient, service: Any, key: str
) -> None:
    headers, body = {"Authorization": f"Bearer {key}"}, {"query": "a?"}
    service.crowd = True
    behind = await anonymous.post("/query", headers=headers, json=body)
    one = httpx.Limits(max_connections=1)
    base = f"http://{address[0]}:{address[1]}"
    async with httpx.AsyncClient(base_url=base, headers=headers, limits=one) as client:
        refused = [await client.post("/query", json=body) for _ in range(2)]
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/health?x=1")).status_code == 200
        assert (await client.head("/whoami")).status_code == 503  # without a body
        assert counted.asked == ["GET /health", "GET /health", "HEAD /whoami"]
        service.crowd = False
        assert (await client.post("/query", json=body)).status_code == 200
    for reply in refused:
        expected = {**behind.json(), "request_id": reply.headers["x-request-id"]}
        assert reply.json() == expected
        of_the_server = {"date": reply.headers["date"], "server": "uvicorn"}
        same_id = {"x-request-id": reply.headers["x-request-id"]}
        assert dict(reply.headers) == {**behind.headers, **of_the_server, **same_id}
    assert len({reply.json()["request_id"] for reply in refused}) == 2


async def test_who_was_let_in_on_the_wire_is_counted_at_once_and_out_again(
    address: tuple[str, int], counted: Counted, application: FastAPI, service: Any, key: str
) -> None:
    leave = asyncio.Event()

    async def slow(*_: Any, **__: Any) -> list[Any]:
        await leave.wait()
        return []

    service.copilot.documents.list = slow
    application.state.gateway._deployment = Deployment(most_in_flight=1)
    base, headers = f"http://{address[0]}:{address[1]}", {"X-API-Key": key}
    async with httpx.AsyncClient(base_url=base, headers=headers) as client:
        both = [asyncio.create_task(client.get("/documents")) for _ in range(2)]
        (refused,), _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert (await refused).status_code == 503
        leave.set()
        assert sorted([(await reply).status_code for reply in both]) == [200, 503]
        assert counted.asked == ["GET /documents"]
        assert (await client.get("/%68ealth")).status_code == 200  # never counted, by any spelling
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")  # nor is what is no request
        writer.close()
        assert (await client.get("/documents")).status_code == 200, "nobody is left inside"


async def test_who_is_sent_away_on_the_wire_may_go_on_or_leave_but_not_drip(
    address: tuple[str, int], service: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    head = f"POST /query HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Length: 14\r\n"
    reader, writer = await asyncio.open_connection(*address)
    async with asyncio.timeout(15):
        service.crowd = True
        for start, rest in ((b"\r\n", b'{"query":"a?"}'), (b'\r\n{"query"', b':"a?"}')):
            writer.write(head.encode() + start)
            first = await reader.readuntil(b"\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"connection: close" not in first
            await reader.readuntil(b"}")
            writer.write(rest)  # the body that was due is not taken for a request
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + b'{"query":"a?"}')
        assert b"\r\nconnection: close\r\n" in await reader.read()
        writer.close()
        whole = head.replace("14", "100000").encode() + b"\r\n"
        heard = await dripped(address, whole, b" ")
    assert heard.startswith(b"HTTP/1.1 503")
    assert heard.count(b"HTTP/1.1") == 1


async def test_guesses_of_keys_stop_reaching_the_database_and_known_keys_still_work(
    anonymous: httpx.AsyncClient, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = anonymous._transport.app.state.gateway
    gateway.attempts = FailedAttempts(most=3)
    for _ in range(3):
        reply = await anonymous.get("/whoami", headers={"X-API-Key": make_secret()})
        assert reply.status_code == 401
    asked = len(service.keys.asked)
    reply = await anonymous.get("/whoami", headers={"X-API-Key": make_secret()})
    assert (reply.status_code, reply.json()["limit"]) == (429, "failed_authentications")
    assert int(reply.headers["Retry-After"]) > 0
    assert len(service.keys.asked) == asked
    known = service.keys.add("acme_corp", Scope.QUERY)
    assert (await anonymous.get("/whoami", headers={"X-API-Key": known})).status_code == 200


def test_failures_are_forgotten_after_their_window_and_addresses_beyond_the_most() -> None:
    counts = FailedAttempts(most=1, window_seconds=0.0)
    counts.note("10.0.0.1")
    assert counts.wait_seconds("10.0.0.1") == 0
    counts = FailedAttempts(most=1)
    counts.note("2001:db8::1")
    assert counts.wait_seconds("2001:db8::2") > 0  # the same network
    assert counts.wait_seconds("2001:db8:1::1") == 0
    for number in range(attempts.MOST_ADDRESSES + 1):
        counts.note(f"host-{number}")
    assert len(counts._counts) == attempts.MOST_ADDRESSES
    assert counts.wait_seconds("2001:db8::1") == 0


async def test_a_service_that_leaves_is_not_ready_and_still_alive(
    anonymous: httpx.AsyncClient, key: str
) -> None:
    before = await anonymous.get("/ready")
    assert (before.status_code, before.headers.get("connection")) == (200, None)
    anonymous._transport.app.state.gateway.draining = True
    assert (await anonymous.get("/ready")).status_code == 503
    assert (await anonymous.get("/health")).status_code == 200
    headers = {"Authorization": f"Bearer {key}"}
    served = await anonymous.get("/whoami", headers=headers)
    assert served.status_code == 200
    assert served.headers["connection"] == "close", "the next request goes to one that stays"
