"""Rows 7 and 8: kill -9 of the service or of PostgreSQL at random points, or an outage, under load.

The stand-in provider logs every call: its log is the truth, and the ledger is held against it.

python -m benchmarks.crash_drill --kill service --kills 50 --queries 10000
python -m benchmarks.crash_drill --kill database --kills 20 --queries 4000
python -m benchmarks.crash_drill --kill outage --down-seconds 60 --queries 2000
"""

import argparse
import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from benchmarks.harness import (
    QUESTION,
    Base,
    Service,
    client_of,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
    until,
)
from tests.standins.running import RunningProvider, running_provider

AT_ONCE = 16
TIMEOUT_SECONDS = 6  # of a query; its lease ends ten seconds later
ROWS = """
    SELECT request_id, attempt, state, estimated, provider, provider_response_id, input_tokens,
           output_tokens, cost_micro_usd FROM usage_events WHERE operation = 'query'
"""
OPEN = "SELECT count(*) FROM usage_events WHERE state = 'reserved'"


@dataclass
class Load:
    """Workers that ask until enough was answered; an error is only counted."""

    service: Service
    key: str
    wanted: int
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answers: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Ask until enough was answered."""
        async with client_of(self.service, self.key, seconds=20.0) as client:
            await asyncio.gather(*(self._work(client) for _ in range(AT_ONCE)))

    async def _work(self, client: httpx.AsyncClient) -> None:
        while self.answered < self.wanted:
            try:
                reply = await client.post("/query", json=QUESTION)
            except httpx.TransportError as error:
                self.failed[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            if reply.status_code == 200:
                self.answered += 1
                self.answers.append(reply.json()["metadata"]["request_id"])
            else:
                self.failed[str(reply.status_code)] += 1
                await asyncio.sleep(0.1)


async def run(options: argparse.Namespace) -> int:
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder, running_provider(Path(folder)) as provider:
        vendor = {
            "OPENAI_API_KEY": "sk-standin",
            "OPENAI_BASE_URL": provider.openai_url,
            "QUERY_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
        }
        async with open_base() as base, open_service(base, **vendor) as service:
            key = await make_tenant(service, "alpha", config={"model_tier": "gpt-4"})
            load = Load(service, key, options.queries)
            began = time.monotonic()
            running = asyncio.create_task(load.run())
            normal = await _disturb(options, chance, base, load)
            await running
            seconds = time.monotonic() - began
            closed = await until(lambda: _all_closed(base), seconds=30.0)
            rows = await base.rows(ROWS)
            print((base.folder / "service.log").read_text(errors="replace")[-options.log_tail :])
            wrong = await base.rows("SELECT * FROM verify_sums('alpha')")
        return _judged(options, load, rows, provider, (seconds, normal, closed, wrong))


async def _disturb(
    options: argparse.Namespace, chance: random.Random, base: Base, load: Load
) -> list[float]:
    """Do the harm, spread over the load; return the seconds until the next answer each time."""
    normal = []
    times = 1 if options.kill == "outage" else options.kills
    for number in range(times):
        target = (number + chance.random()) / times * options.queries * 0.95
        await _answered_beyond(load, target)
        await asyncio.sleep(chance.uniform(0.0, 0.05))
        if options.kill == "service":
            load.service.kill()
            await load.service.start()
        elif options.kill == "database":
            await _kill(base)
        else:
            await base.stop()
            await asyncio.sleep(options.down_seconds)
            await base.start()
        before, back = load.answered, time.monotonic()
        await _answered_beyond(load, before + 1)
        normal.append(time.monotonic() - back)
    return normal


async def _answered_beyond(load: Load, number: float) -> None:
    while load.answered < number:  # noqa: ASYNC110 - a drill polls
        await asyncio.sleep(0.005)


async def _kill(base: Base) -> None:
    """Kill the server that this drill started, and see it come back."""
    pid = base.pid
    # A pid in a file may be anyone's by now.
    assert os.readlink(f"/proc/{pid}/cwd").startswith(str(base.folder)), "not the drill's server"
    os.kill(pid, signal.SIGKILL)
    back = await until(lambda: _serves_anew(base, pid), seconds=30.0)
    assert back is not None, "the server did not come back"


async def _serves_anew(base: Base, old_pid: int) -> bool:
    try:
        return base.pid != old_pid and await base.value("SELECT 1") == 1
    except (OSError, asyncpg.PostgresError, StopIteration, IndexError):
        return False


async def _all_closed(base: Base) -> bool:
    return int(await base.value(OPEN)) == 0


def _judged(
    options: argparse.Namespace,
    load: Load,
    rows: list[Any],
    provider: RunningProvider,
    times: tuple[float, list[float], float | None, list[Any]],
) -> int:
    seconds, normal, closed, wrong = times
    calls = {call["request_id"]: call for call in provider.calls() if call["charged"]}
    states = Counter(row["state"] for row in rows)
    settled = [row for row in rows if row["provider"] == "openai" and row["state"] == "settled"]
    exact = [row for row in settled if not row["estimated"]]
    ids = Counter(row["provider_response_id"] for row in exact)
    equal = sum(
        (call := calls.get(row["provider_response_id"] or "")) is not None
        and (call["input_tokens"], call["output_tokens"])
        == (row["input_tokens"], row["output_tokens"])
        for row in exact
    )
    uncertain = [r for r in rows if r["state"] in ("interrupted", "released") or r["estimated"]]
    hosted = sum(row["provider"] == "openai" for row in uncertain)
    unseen = len(calls.keys() - ids.keys())
    kept = {str(row["request_id"]) for row in rows if row["state"] == "settled"}
    at_most = AT_ONCE * max(1, options.kills if options.kill != "outage" else 1)
    facts = {
        "disturbance": options.kill, "times": len(normal), "answered": load.answered,
        "failed at the client": dict(load.failed), "rows": dict(states),
        "charged calls of the provider": len(calls), "exact rows": len(exact),
        "calls without an exact row": unseen, "uncertain rows": len(uncertain),
        "of them hosted": hosted,
        "slowest to answer again, s": round(max(normal), 2), "seconds": round(seconds),
        "closed after, s": closed,
    }  # fmt: skip
    claims = {
        "every exact row has one call with equal tokens": equal == len(exact)
        and all(count == 1 for count in ids.values()),
        "every other call is covered by an uncertain row of its own": unseen <= hosted,
        "uncertain rows are at most what was in flight": len(uncertain) <= at_most,
        "no internal error": load.failed["500"] == 0,
        "no answer is unbilled": set(load.answers) <= kept,
        "no reservation left 30 s after": closed is not None,
        "the sums equal the ledger": wrong == [],
    }
    if options.kill != "service":
        claims["normal again in 5 s"] = max(normal) <= 5.0
    return concluded("crash_drill", options.seed, facts, claims)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill", choices=["service", "database", "outage"], default="service")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--down-seconds", type=float, default=60.0)
    parser.add_argument("--log-tail", type=int, default=1, help="characters of the service's log")
    parser.add_argument("--seed", type=int, default=new_seed())
    raise SystemExit(asyncio.run(run(parser.parse_args())))
