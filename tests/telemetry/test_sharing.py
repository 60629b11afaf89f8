"""Metrics of several workers are one; what the dead had is gone, what they counted stays."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.gateway.scraping import exposed
from compliance_copilot.observing import served
from compliance_copilot.settings import load_settings
from compliance_copilot.telemetry import metrics, sharing

WORKER = """
import os, signal, sys
from pathlib import Path
from compliance_copilot.telemetry import metrics, sharing
folder = Path(sys.argv[1])
with sharing.shared(folder, most_tenants=2):
    metrics.HTTP_REQUESTS.labels("GET", "/query", "200").inc(3)
    metrics.JOURNAL_LINES.labels("settlements").set(5)
    print(metrics.tenant_label("t-b"), metrics.tenant_label("t-c"), flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[2] == "forked":
        child = os.fork()
        metrics.HTTP_REQUESTS.labels("GET", "/query", "200").inc(10 if child else 100)
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    sharing.prepare(tmp_path, alone=True)
    with sharing.shared(tmp_path, most_tenants=2):
        yield tmp_path


def worker(folder: Path, end: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(folder), end],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.stdout


def value(line: str) -> float | None:
    for told in sharing.exposition().decode().splitlines():
        if told.startswith(line + " "):
            return float(told.rpartition(" ")[2])
    return None


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_counts_of_all_workers_add_up_and_a_dead_ones_gauges_go(folder: Path, end: str) -> None:
    metrics.HTTP_REQUESTS.labels("GET", "/query", "200").inc()
    metrics.JOURNAL_LINES.labels("settlements").set(2)
    worker(folder, end)
    asked = 'copilot_http_requests_total{method="GET",route="/query",status="200"}'
    assert value(asked) == 4.0
    assert value('copilot_journal_lines{kind="settlements"}') == 2.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks there")
def test_a_process_that_was_forked_counts_beside_the_one_it_came_from(folder: Path) -> None:
    worker(folder, "forked")
    asked = 'copilot_http_requests_total{method="GET",route="/query",status="200"}'
    assert value(asked) == 113.0
    assert len([*folder.glob("counter_*.db")]) == 2


def test_tenants_beyond_the_bound_are_other_on_every_worker(folder: Path) -> None:
    assert metrics.tenant_label("t-a") == "t-a"
    assert worker(folder, "stopped").split() == ["t-b", "other"]
    assert metrics.tenant_label("t-c") == "other"
    assert metrics.tenant_label("t-b") == "t-b"


def test_the_bound_holds_without_a_folder_too() -> None:
    labels = [metrics.tenant_label(f"alone-{n}") for n in range(300)]
    assert labels[0] == "alone-0"
    assert labels[-1] == sharing.OTHER


def test_a_new_start_begins_at_zero_and_a_second_worker_does_not(tmp_path: Path) -> None:
    settings = load_settings(environment="test", data_dir=tmp_path)
    asked = 'copilot_http_requests_total{method="GET",route="/health",status="200"}'
    with served(settings):
        metrics.HTTP_REQUESTS.labels("GET", "/health", "200").inc()
        with served(settings):
            assert value(asked) == 1.0
    with served(settings):
        assert value(asked) is None


async def test_an_address_of_its_own_tells_the_metrics_and_nothing_else(folder: Path) -> None:
    metrics.HTTP_REQUESTS.labels("GET", "/query", "200").inc()
    address = f"127.0.0.1:{free_port()}"
    async with exposed(address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        told = await client.get("/metrics")
        assert told.status_code == 200
        assert "copilot_http_requests_total{" in told.text
        assert (await client.get("/documents")).status_code == 404
        assert (await client.post("/metrics")).status_code == 404


async def test_an_address_that_is_taken_stops_the_start_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SetupError, match="METRICS_BIND"):
            async with exposed(address):
                pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
