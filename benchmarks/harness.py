"""What the drills share: a database, the service in processes of its own, tenants, a verdict.

Only processes that were started here are ended, each by its own pid.
"""

import asyncio
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from compliance_copilot.storage import migrations  # noqa: E402
from compliance_copilot.storage.embedded import EmbeddedServer, open_embedded  # noqa: E402
from compliance_copilot.storage.migrations.routines import SEARCH_PATH  # noqa: E402

ROLE = "copilot_drill"
DATABASE = "copilot_drill"
ADMIN_KEY = "a-platform-key-for-drills-of-40-characters"
UNLIMITED = {
    "max_queries_per_hour": None,
    "requests_per_minute": None,
    "max_concurrent_requests": None,
}
TEXT = (
    "# Encryption\n\nCustomer data at rest is encrypted with AES-256. Keys are rotated every 90 "
    "days.\n\n# Retention\n\nAudit records are kept for seven years.\n"
)
QUESTION = {"query": "How is customer data at rest encrypted?"}
START_SECONDS = 60.0


@dataclass
class Base:
    """A PostgreSQL of the drill's own, under the durable settings of the product."""

    folder: Path
    server: EmbeddedServer
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def owner(self) -> str:
        """The owner's address."""
        return self.server.dsn(self.server.superuser, DATABASE)

    @property
    def serving(self) -> str:
        """The serving role's address."""
        return self.server.dsn(ROLE, DATABASE)

    @property
    def pid(self) -> int:
        """The pid of the server that this drill started."""
        note = next(self.folder.rglob("postmaster.pid"))
        return int(note.read_text().split()[0])

    async def stop(self) -> None:
        """Stop the server; it stays down until `start`."""
        await self.stack.aclose()

    async def start(self) -> None:
        """Start it again."""
        self.server = await self.stack.enter_async_context(open_embedded(self.folder))

    async def value(self, statement: str, *arguments: object) -> Any:
        """Return one value, seen by the owner."""
        return (await self.rows(statement, *arguments))[0][0]

    async def rows(self, statement: str, *arguments: object) -> list[Any]:
        """Return rows, seen by the owner."""
        connection = await asyncpg.connect(self.owner, server_settings={"search_path": SEARCH_PATH})
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            await connection.close()


@asynccontextmanager
async def open_base(kept: Path | None = None) -> AsyncIterator[Base]:
    """Run a migrated PostgreSQL while the context lasts: a fresh one, or the one of `kept`."""
    fresh = tempfile.TemporaryDirectory(prefix="cc-drill-")
    with _ended_by_sigterm(), nullcontext(str(kept)) if kept else fresh as folder:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(open_embedded(Path(folder)))
            await migrations.ensure_database(server.dsn(server.superuser, "postgres"), DATABASE)
            base = Base(Path(folder), server, stack)
            await migrations.migrate(base.owner, role=ROLE, password=server.password)
            yield base
            await base.stack.aclose()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM cancel this task, as Ctrl-C does: its servers are ended before it is."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """`compliance-copilot serve` on loopback."""

    base: Base
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "compliance_copilot.cli", "serve"]
        log = self.base.folder / "service.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                command, cwd=ROOT, env=self.variables(), stdout=output, stderr=output
            )
        await self.wait()

    def variables(self) -> dict[str, str]:
        """Return what the service is told."""
        # What the caller's shell has set for a service of his own does not reach a drill's.
        inherited = {n: os.environ[n] for n in ("PATH", "HOME", "LANG") if n in os.environ}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            "DATABASE_URL": self.base.serving,
            "DATABASE_OWNER_URL": self.base.owner,
            "DATA_DIR": str(self.base.folder / "service"),
            "API_PORT": str(self.port),
            "WORKERS": str(self.workers),
            "ADMIN_API_KEY": ADMIN_KEY,
            "LOAD_EXAMPLES": "false",
            "ENVIRONMENT": "production",
            "AUDIT_SIGNING_KEY": "5a0b1c2d3e4f6978" * 4,
            "SECRETS_KEY": "a-secrets-key-for-drills-of-40-characters",
            "DRAIN_NOTICE_SECONDS": "0",
            "LOG_LEVEL": "WARNING",
            **self.environment,
        }

    async def wait(self) -> None:
        """Wait until it answers. Raises RuntimeError with the end of its log."""
        began = time.monotonic()
        async with httpx.AsyncClient(base_url=self.url) as client:
            while time.monotonic() - began < START_SECONDS:
                if self.process is not None and self.process.poll() is not None:
                    break
                try:
                    if (await client.get("/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        log = (self.base.folder / "service.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"the service did not start:\n{log}")

    def kill(self) -> None:
        """`kill -9`, without a farewell. One worker only: then the process is the service."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def terminate(self, seconds: float = 30.0) -> float:
        """SIGTERM; return the seconds until it was gone. Raises TimeoutExpired."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, seconds)
        return time.monotonic() - began


@asynccontextmanager
async def open_service(
    base: Base, *, workers: int = 1, **environment: str
) -> AsyncIterator[Service]:
    """Run the service while the context lasts."""
    service = Service(base, workers, environment)
    try:
        await service.start()
        yield service
    finally:
        if service.process is not None and service.process.poll() is None:
            await service.terminate()


def client_of(service: Service, key: str, *, seconds: float = 120.0) -> httpx.AsyncClient:
    """Return a client with as many connections as it needs."""
    none = httpx.Limits(max_connections=None, max_keepalive_connections=500)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(
        base_url=service.url, headers=headers, timeout=seconds, limits=none, trust_env=False
    )


async def insisted(client: httpx.AsyncClient, path: str, body: Mapping[str, Any]) -> httpx.Response:
    """Ask, and ask again after `Retry-After` whenever the service sheds the request."""
    while True:
        reply = await client.post(path, json=body)
        if reply.status_code != 503 or reply.json().get("code") != "overloaded":
            return reply
        await asyncio.sleep(float(reply.headers["Retry-After"]) * (0.5 + random.random()))


async def make_tenant(
    service: Service,
    tenant_id: str,
    *,
    limits: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    text: str | None = TEXT,
) -> str:
    """Make a tenant with one document (or none) and no answers from memory; return its key."""
    async with client_of(service, ADMIN_KEY) as operator:
        body = {
            "tenant_id": tenant_id,
            "name": tenant_id,
            "config": {"cache": False, **(config or {})},
        }
        body["limits"] = {**UNLIMITED, **(limits or {})}
        made = await operator.post("/tenants", json=body)
        assert made.status_code == 201, made.text
        key: str = made.json()["api_key"]["secret"]
    if text is None:
        return key
    async with client_of(service, key) as client:
        stored = await client.post("/ingest", json={"documents": [{"text": text}]})
        assert stored.status_code == 200, stored.text
    return key


def concluded(name: str, seed: int, facts: Mapping[str, object], misses: Mapping[str, bool]) -> int:
    """Print counts, seed and verdict; return the exit status."""
    print(f"{name}  seed {seed}")
    for fact, value in facts.items():
        print(f"  {fact:<44} {value}")
    missed = [claim for claim, holds in misses.items() if not holds]
    for claim, holds in misses.items():
        print(f"  {'holds' if holds else 'MISSED':<7} {claim}")
    print("verdict: " + ("MISSED" if missed else "all hold"))
    return 1 if missed else 0


def new_seed() -> int:
    """Return a seed for a run without one."""
    return secrets.randbelow(2**31)


async def until(
    condition: Callable[[], Any], *, seconds: float, every_seconds: float = 0.2
) -> float | None:
    """Wait for an awaitable condition; return after how many seconds it held, None: never."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if await condition():
            return time.monotonic() - began
        await asyncio.sleep(every_seconds)
    return None
