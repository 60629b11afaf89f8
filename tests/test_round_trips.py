"""How often a question asks the database: counted on the wire, between the pool and PostgreSQL."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx
import pytest
from pydantic import SecretStr

from compliance_copilot.gateway.application import build_application
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import Customer, make_customer

TEXT = "# Keys\n\nEncryption keys are rotated every {} days. Backups are kept for seven years."
OPENING = b"\0"
NONE: Mapping[str, str] = {}
TRIPS = frozenset({b"S", b"Q", b"H"})
"""Sync, Query and Flush: after each the client waits for the server."""


@dataclass
class Wire:
    """Passes everything on in both directions and counts where the client waits."""

    server: str | tuple[str, int]
    trips: int = 0

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        from_server, server = await self._open()
        returning = asyncio.ensure_future(self._pass_back(from_server, back))
        with suppress(asyncio.IncompleteReadError, OSError):
            kind = OPENING
            while True:
                head = b"" if kind is OPENING else await client.readexactly(1)
                size = await client.readexactly(4)
                server.write(head + size + await client.readexactly(int.from_bytes(size) - 4))
                self.trips += head in TRIPS
                kind = head
        server.close()
        returning.cancel()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.server, str):
            return await asyncio.open_unix_connection(self.server)
        return await asyncio.open_connection(*self.server)

    async def _pass_back(self, server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await server.read(65_536):
            back.write(data)
        back.close()


@asynccontextmanager
async def wired(settings: Settings) -> AsyncIterator[tuple[Wire, Settings]]:
    """Put a wire before the database of these settings."""
    parts = urlsplit(_address(settings))
    where = parse_qs(parts.query)
    port = int(where["port"][0] if "port" in where else parts.port or 5432)
    host = where["host"][0] if "host" in where else str(parts.hostname)
    wire = Wire(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
    with tempfile.TemporaryDirectory(prefix="cc-wire-") as folder:
        path = Path(folder) / f".s.PGSQL.{port}"
        async with await asyncio.start_unix_server(wire.serve, path):
            who = parts.netloc.rpartition("@")[0]
            behind = parts._replace(netloc=f"{who}@", query=f"host={folder}&port={port}")
            address = urlunsplit(behind)
            yield wire, settings.model_copy(update={"database_url": SecretStr(address)})


def _address(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


@dataclass
class Asked:
    """A service behind a wire, and one of its customers."""

    wire: Wire
    client: httpx.AsyncClient
    customer: Customer

    async def trips(
        self, question: str, headers: Mapping[str, str], config: Mapping[str, str]
    ) -> tuple[int, bool]:
        """Return the trips of one question, and whether its answer came from the cache."""
        before = self.wire.trips
        body = {"query": question, **config}
        reply = await self.client.post(
            "/query", json=body, headers={**self.customer.headers, **headers}
        )
        assert reply.status_code == 200, reply.text
        return self.wire.trips - before, reply.json()["metadata"]["cached"]

    async def usual(self, *, cached: bool, config: Mapping[str, str] = NONE) -> int:
        """Return the usual trips: the work in the background asks a few times, too."""
        headers = {} if cached else {"Cache-Control": "no-store"}
        seen = [await self.trips("How often are encryption keys rotated?", headers, config)
                for _ in range(12)]  # fmt: skip
        assert all(hit is cached for _, hit in seen[1:])
        return Counter(trips for trips, _ in seen[1:]).most_common(1)[0][0]


@pytest.fixture
async def asked(settings: Settings) -> AsyncIterator[Asked]:
    async with asking(settings) as asked:
        yield asked


@pytest.fixture
async def cold(settings: Settings) -> AsyncIterator[Asked]:
    async with asking(settings.model_copy(update={"hot_index_megabytes": 0})) as asked:
        yield asked


@asynccontextmanager
async def asking(settings: Settings) -> AsyncIterator[Asked]:
    async with wired(settings) as (wire, behind):

        @asynccontextmanager
        async def opened() -> AsyncIterator[Service]:
            async with open_service(behind) as service:
                services.append(service)
                yield service

        services: list[Service] = []
        application = build_application(opened)
        async with (
            application.router.lifespan_context(application),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(application), base_url="http://service"
            ) as client,
        ):
            customer = await make_customer(services[0], "acme")
            yield Asked(wire, client, customer)


async def ingest(asked: Asked, days: int) -> None:
    body = {"documents": [{"document_id": "keys", "text": TEXT.format(days)}]}
    reply = await asked.client.post("/ingest", json=body, headers=asked.customer.headers)
    assert reply.status_code == 200, reply.text


async def test_a_question_to_a_mapped_corpus_asks_the_database_once_and_so_does_a_repeated_one(
    asked: Asked,
) -> None:
    await ingest(asked, 90)
    assert await asked.usual(cached=False) == 1
    assert await asked.usual(cached=True) == 1


async def test_a_question_that_takes_steps_is_admitted_first(asked: Asked) -> None:
    await ingest(asked, 90)
    steps = {"retrieval_mode": "agentic"}
    assert await asked.usual(cached=False, config=steps) > 2


async def test_a_question_to_a_corpus_that_is_not_mapped_takes_three_trips(
    cold: Asked,
) -> None:
    await ingest(cold, 90)
    assert await cold.usual(cached=False) == 3
