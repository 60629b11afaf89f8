"""Debian's Prometheus on the deployment's own files: rules, alerts, and a scrape of the service."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.harness import (
    ADMIN_KEY,
    QUESTION,
    Service,
    client_of,
    free_port,
    make_tenant,
    open_base,
    open_service,
)
from benchmarks.prometheus import Prometheus, running_prometheus
from tests.standins.running import RunningProvider, running_provider

FILES = Path(__file__).resolve().parents[1] / "deploy" / "prometheus"
LONGEST_SECONDS = 120


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=FILES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_rules_are_valid_and_each_alert_fires_when_it_should() -> None:
    assert "rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[RunningProvider]:
    with running_provider(tmp_path) as vendor:
        yield vendor


@pytest.fixture
async def service(vendor: RunningProvider) -> AsyncIterator[Service]:
    async with (
        open_base() as base,
        open_service(
            base, workers=2, OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=vendor.openai_url
        ) as service,
    ):
        yield service


async def test_a_real_prometheus_scrapes_two_workers_and_a_dead_provider_rings(
    service: Service, vendor: RunningProvider, tmp_path: Path
) -> None:
    key = await make_tenant(service, "acme", config={"model_tier": "gpt-4", "cache": False})
    target = service.url.removeprefix("http://")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with running_prometheus(folder, port=free_port(), target=target, key=ADMIN_KEY) as prometheus:
        async with client_of(service, key) as client:
            await _ask(client, 3)
            asked = 'sum(copilot_operations_total{operation="query"})'
            await _until(prometheus, f"{asked} == 3")
            assert prometheus.query("up")[0]["value"][1] == "1"
            assert _provider_alarms(prometheus) == []
            vendor.fault("500")
            began = time.monotonic()
            while not _provider_alarms(prometheus):
                assert time.monotonic() - began < LONGEST_SECONDS, "the alert never fired"
                await _ask(client, 1)
                await asyncio.sleep(1)
    assert _now_and_then(service) == 200


def _now_and_then(service: Service) -> int:
    return httpx.get(f"{service.url}/health").status_code


def _provider_alarms(prometheus: Prometheus) -> list[str]:
    return [
        labels["provider"]
        for labels in prometheus.firing()
        if labels["alertname"] == "ProviderDown"
    ]


async def _ask(client: httpx.AsyncClient, times: int) -> None:
    for _ in range(times):
        reply = await client.post("/query", json=QUESTION)
        assert reply.status_code == 200, reply.text


async def _until(prometheus: Prometheus, expression: str) -> None:
    began = time.monotonic()
    while not prometheus.query(expression):
        assert time.monotonic() - began < LONGEST_SECONDS, expression
        await asyncio.sleep(0.2)
