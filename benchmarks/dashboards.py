"""Every query of both dashboards, answered by a real Prometheus that scrapes a loaded service.

The walk causes what they measure: a vendor that fails and one that makes things up, questions that
come again, files, and at the end a database that goes away while answers are under way. Of each
series the highest value of the walk is printed.

python benchmarks/dashboards.py --seconds 40     (needs Debian's package `prometheus`)
"""

import argparse
import asyncio
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import (
    ADMIN_KEY,
    QUESTION,
    TEXT,
    Base,
    client_of,
    free_port,
    make_tenant,
    open_base,
    open_service,
)
from benchmarks.lines import Line, request_bytes
from benchmarks.prometheus import Prometheus, running_prometheus
from tests.standins.running import RunningProvider, running_provider

GRAFANA = Path(__file__).resolve().parents[1] / "deploy" / "grafana"
TENANTS = ("acme", "beta", "gamma")
MOODS = ("normal", "500", "normal", "unsupported")
"""What the vendor does, one after the other, each for as long."""
DOWN_SECONDS = 8.0
BURST = 200


def panels(name: str) -> Iterator[tuple[str, str]]:
    """Give title and query of each target, with the dashboard's variables filled in."""
    for panel in json.loads((GRAFANA / f"{name}.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$tenant", TENANTS[0])


async def load(clients: list[httpx.AsyncClient], vendor: RunningProvider, seconds: float) -> int:
    """Ask, search and store for a while, with a vendor in several moods."""
    began, done = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        vendor.fault(MOODS[int(passed / seconds * len(MOODS))])
        text = f"{TEXT}\n\nEdition {done}."
        body = {"documents": [{"document_id": "notes", "text": text}]}
        file = {"files": (f"{done}.md", text.encode(), "text/markdown")}
        calls = [client.post("/query", json=QUESTION) for client in clients]
        calls += [clients[0].post("/search", json=QUESTION), clients[0].post("/ingest", json=body)]
        calls += [clients[1].post("/ingest/files", files=file)]
        replies = await asyncio.gather(*calls)
        replies.append(await clients[0].post("/query", json=QUESTION))
        done += len(replies)
        assert all(reply.status_code < 500 for reply in replies), [r.text for r in replies]
    vendor.fault("normal")
    return done


async def outage(clients: list[httpx.AsyncClient], vendor: RunningProvider, base: Base) -> int:
    """Take the database away while a vendor thinks: its answers are settled in the journal."""
    before = len(vendor.calls())
    vendor.fault("delay", seconds=3.0)
    body = {**QUESTION, "query": "For how many years are audit records kept?"}
    asked = [asyncio.create_task(client.post("/query", json=body)) for client in clients]
    while len(vendor.calls()) < before + len(asked):  # noqa: ASYNC110 - its log is a file
        await asyncio.sleep(0.05)
    await base.stop()
    replies = await asyncio.gather(*asked)
    await asyncio.sleep(DOWN_SECONDS)
    await base.start()
    vendor.fault("normal")
    return sum(reply.status_code == 200 for reply in replies)


async def burst(port: int, key: str) -> int:
    """Let one key want more places than it may have; return how many were sent away."""
    request, lines = request_bytes("/search", key, QUESTION), [Line(port) for _ in range(BURST)]
    statuses = await asyncio.gather(*(line.ask(request) for line in lines))
    for line in lines:
        line.close()
    return statuses.count(503)


def shown(series: list[Any]) -> str:
    """Return the first values that a query gave."""
    if not series:
        return "no series: nothing of the kind has happened"
    told = []
    for one in series[:4]:
        name = ",".join(v for k, v in one["metric"].items() if k != "__name__")
        highest = max((float(v) for _, v in one["values"] if v != "NaN"), default=math.nan)
        told.append(f"{name or 'all'}={highest:.4g}")
    return "  ".join(told)


def answered(prometheus: Prometheus, since: float) -> tuple[int, int]:
    """Print each query's highest answers; return how many gave series, of how many."""
    full = total = 0
    for name in ("operator", "tenant"):
        print(f"\n{name}.json")
        for title, query in panels(name):
            series = prometheus.during(query, since, time.time())
            total, full = total + 1, full + bool(series)
            print(f"  {title[:44]:<44} {shown(series)}")
    return full, total


async def run(seconds: float) -> int:
    """Run it all; 0 when every query gave series."""
    since = time.time()
    async with open_base() as base:
        folder = base.folder / "prometheus"
        folder.mkdir()
        with running_provider(base.folder) as vendor:
            variables = {
                "OPENAI_API_KEY": "sk-drill",
                "OPENAI_BASE_URL": vendor.openai_url,
                "MAX_REQUESTS_IN_FLIGHT": "24",
            }
            async with open_service(base, workers=2, **variables) as service:
                keys = [
                    await make_tenant(service, t, config={"model_tier": "gpt-4", "cache": True})
                    for t in TENANTS
                ]
                clients = [client_of(service, key) for key in keys]
                target = service.url.removeprefix("http://")
                with running_prometheus(
                    folder, port=free_port(), target=target, key=ADMIN_KEY
                ) as prometheus:
                    calls = await load(clients, vendor, seconds)
                    await burst(service.port, keys[2])
                    await asyncio.sleep(3)  # a rate needs a value to start from
                    shed = await burst(service.port, keys[2])
                    kept = await outage(clients, vendor, base)
                    await asyncio.sleep(8)  # the service samples its state every 5 seconds
                    full, total = answered(prometheus, since)
                    firing = sorted({labels["alertname"] for labels in prometheus.firing()})
                for client in clients:
                    await client.aclose()
    print(f"\n{calls} calls in {seconds:.0f} s; {full} of {total} queries gave series")
    print(f"{shed} of {BURST} requests at once were sent away")
    print(f"{kept} of {len(TENANTS)} questions were answered while the database was away")
    print(f"alerts that fired at the end: {', '.join(firing) or 'none'}")
    return 0 if full == total else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40.0)
    sys.exit(asyncio.run(run(parser.parse_args().seconds)))
