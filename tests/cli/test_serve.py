"""serve: it starts with one line that works when pasted, ends cleanly, or says why it cannot."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from compliance_copilot.cli.serve import base_url
from compliance_copilot.settings import load_settings

from .conftest import LONGEST_SECONDS, CommandLine, free_port, listening

BROKEN = "postgresql://nobody:wrong@127.0.0.1:1/none"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the printed line is curl's")


@contextmanager
def serving(cli: CommandLine, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Start the service; give it and what it printed up to the line to paste."""
    process = subprocess.Popen(
        cli.command("serve", *options), env=cli.environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        printed: list[str] = []
        while "curl" not in "".join(printed[-1:]):
            printed.append(process.stderr.readline())
            assert printed[-1], printed
        yield process, printed
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=LONGEST_SECONDS)


def servers_of(cli: CommandLine) -> list[Path]:
    """Return the notes that running PostgreSQL servers keep in their folders."""
    return list(cli.data_dir.rglob("postmaster.pid"))


@needs_curl
@pytest.mark.parametrize(("workers", "stop"), [("1", signal.SIGTERM), ("2", signal.SIGINT)])
def test_the_printed_line_answers_and_a_signal_stops_everything(
    started: CommandLine, workers: str, stop: signal.Signals
) -> None:
    with serving(started.having(WORKERS=workers)) as (process, printed):
        pasted = subprocess.run(
            ["sh", "-c", printed[-1].strip()], capture_output=True, timeout=60, check=True
        )
        body = orjson.loads(pasted.stdout)
        assert body["outcome"] == "answered"
        assert body["citations"]
        assert servers_of(started)
        process.send_signal(stop)
        assert process.wait(LONGEST_SECONDS) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert servers_of(started) == []


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A deployment with the examples, on which nothing runs at the moment."""
    data_dir = tmp_path_factory.mktemp("serve") / "data"
    settings = {"LOAD_EXAMPLES": "true", "API_PORT": str(free_port())}
    return CommandLine(data_dir, settings)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_readiness_flips_before_connections_are_refused(started: CommandLine, workers: str) -> None:
    with serving(started.having(WORKERS=workers, DRAIN_NOTICE_SECONDS="3")) as (process, _):
        url = f"http://127.0.0.1:{started.settings['API_PORT']}"
        assert httpx.get(f"{url}/ready", timeout=60).status_code == 200
        process.send_signal(signal.SIGTERM)
        statuses = set()
        with suppress(httpx.TransportError):  # in the end nobody listens
            while True:
                statuses.add(httpx.get(f"{url}/ready").status_code)
                assert httpx.get(f"{url}/health").status_code == 200
        assert 503 in statuses
        assert process.wait(LONGEST_SECONDS) == 0


async def test_a_worker_with_a_queue_passes_requests_to_one_that_has_none(
    started: CommandLine,
) -> None:
    with serving(started.having(WORKERS="2")) as (process, _):
        url = f"http://127.0.0.1:{started.settings['API_PORT']}"
        one, other = await both_workers(process.pid, url)
        key = (started.data_dir / "keys" / "acme_corp.key").read_text().strip()
        async with AsyncExitStack() as stack:
            with stopped(other):  # so that all these connections are the one's
                clients = [await stack.enter_async_context(kept(url, key)) for _ in range(12)]
                for client in clients:
                    assert (await client.get("/health")).status_code == 200
            with stopped(one):  # so that it finds them all at once
                asked = [
                    asyncio.create_task(c.post("/query", json={"query": f"Who is told of {n}?"}))
                    for n, c in enumerate(clients)
                ]
                await asyncio.sleep(0.5)
            replies = await asyncio.gather(*asked)
            assert [reply.status_code for reply in replies] == [200] * len(clients)
            held = [connections_of(pid, int(started.settings["API_PORT"])) for pid in (one, other)]
        assert held[1] > 0, held
        assert sum(held) >= len(clients)
        process.terminate()
        assert process.wait(LONGEST_SECONDS) == 0
    assert list((started.data_dir / "peers").rglob("*.sock")) == []


async def both_workers(supervisor: int, url: str) -> tuple[int, int]:
    """Return both workers' numbers when each has had a connection and knows of the other."""
    async with kept(url, "") as client:
        assert (await client.get("/ready")).status_code == 200  # one is there
    workers = [
        child.pid
        for child in psutil.Process(supervisor).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]
    one, other = workers
    for resting in (one, other):
        with stopped(resting):
            async with kept(url, "") as client:
                assert (await client.get("/health")).status_code == 200
    await asyncio.sleep(1.5)  # they look around every second
    return one, other


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """Keep a worker from taking connections."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def kept(url: str, key: str) -> httpx.AsyncClient:
    """Return a client of one connection."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=LONGEST_SECONDS)


def connections_of(worker: int, port: int) -> int:
    """Return how many connections to a port a process holds."""
    established = psutil.Process(worker).net_connections("tcp")
    return sum(c.laddr.port == port and c.status == "ESTABLISHED" for c in established)


def test_a_taken_port_is_told_in_one_line(new_cli: CommandLine) -> None:
    port = new_cli.settings["API_PORT"]
    with listening(int(port)):
        complaint = new_cli.process("serve").complaint
    assert complaint.startswith(f"API_PORT: 127.0.0.1:{port}")
    assert not new_cli.data_dir.exists(), "nothing was started for it"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broken_database_url_is_told_in_one_line(new_cli: CommandLine, workers: str) -> None:
    complaint = new_cli.process("serve", DATABASE_URL=BROKEN, WORKERS=workers).complaint
    assert complaint.startswith("DATABASE_URL: cannot connect")
    assert "wrong" not in complaint, "the password"


def test_an_unwritable_data_dir_is_told_in_one_line(new_cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    complaint = new_cli.process("serve", DATA_DIR=str(tmp_path / "file" / "data")).complaint
    assert complaint.startswith("DATA_DIR ")


@pytest.mark.parametrize(
    ("variable", "value"), [("API_PORT", "99999"), ("API_HOST", "no.such.host.invalid")]
)
def test_a_setting_that_cannot_be_used_is_named(
    new_cli: CommandLine, variable: str, value: str
) -> None:
    assert new_cli.process("serve", **{variable: value}).complaint.startswith(f"{variable}: ")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("0.0.0.0", "http://127.0.0.1:8001"),  # noqa: S104
        ("::", "http://[::1]:8001"),
        ("2001:db8::7", "http://[2001:db8::7]:8001"),
        ("copilot.example", "http://copilot.example:8001"),
    ],
)
def test_the_printed_address_is_one_that_this_machine_reaches(host: str, url: str) -> None:
    assert base_url(load_settings(api_host=host, api_port=8001)) == url
