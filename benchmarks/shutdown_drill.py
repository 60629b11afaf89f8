"""Row 20: SIGTERM under load, twenty times: nothing in flight fails, no usage lost, gone in 30 s.

A request fails when it was accepted and got no whole reply; one that finds nobody listening was
not in flight.

python -m benchmarks.shutdown_drill [--times 20] [--seed N]
"""

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

import httpx

from benchmarks.harness import (
    QUESTION,
    Service,
    client_of,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
)
from tests.standins.running import running_provider

AT_ONCE = 16
ROWS = "SELECT request_id, state, provider, estimated FROM usage_events WHERE operation = 'query'"


async def run(times: int, seed: int) -> int:
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    answered: set[str] = set()
    seconds: list[float] = []
    statuses: list[int | None] = []
    with tempfile.TemporaryDirectory() as folder, running_provider(Path(folder)) as provider:
        vendor = {"OPENAI_API_KEY": "sk-standin", "OPENAI_BASE_URL": provider.openai_url}
        async with open_base() as base, open_service(base, **vendor) as service:
            key = await make_tenant(service, "alpha", config={"model_tier": "gpt-4"})
            provider.fault("delay", seconds=0.2)
            for number in range(times):
                if number:
                    await service.start()
                load = asyncio.create_task(_load(service, key, outcomes, answered))
                await asyncio.sleep(chance.uniform(1.0, 5.0))  # the first call of a vendor is slow
                seconds.append(await service.terminate())
                statuses.append(service.process.returncode if service.process else None)
                await load
            rows = await base.rows(ROWS)
            wrong = await base.rows("SELECT * FROM verify_sums('alpha')")
        charged = sum(call["charged"] for call in provider.calls())
    states = dict(Counter(row["state"] for row in rows))
    ids = {str(row["request_id"]) for row in rows}
    exact = sum(row["provider"] == "openai" and not row["estimated"] for row in rows)
    facts = {"times": times, "answered": outcomes["200"], "outcomes": dict(outcomes),
             "rows": states, "charged calls": charged, "exit statuses": dict(Counter(statuses)),
             "slowest exit, s": round(max(seconds), 2)}  # fmt: skip
    # A kept connection that was idle is closed under the next request: it got no row, so nothing
    # was begun for it. Whatever has a row was accepted, and has to have its answer.
    refused = {"200", "503", "ConnectError", "ReadError", "WriteError", "RemoteProtocolError"}
    claims = {
        "nothing in flight failed": set(outcomes) <= refused and ids <= answered,
        "every answer is in the ledger": answered <= ids and outcomes["200"] > 0,
        "every call of the provider is a settled row": charged == exact,
        "nothing is open, the sums equal the ledger": set(states) == {"settled"} and not wrong,
        "gone within 30 s": max(seconds) <= 30.0,
    }
    return concluded("shutdown_drill", seed, facts, claims)


async def _load(service: Service, key: str, outcomes: Counter[str], answered: set[str]) -> None:
    async with client_of(service, key, seconds=40.0) as client:

        async def work() -> None:
            while True:
                try:
                    reply = await client.post("/query", json=QUESTION)
                except httpx.TransportError as error:
                    # A kept connection that the server closed while idle took nothing in: ask anew
                    outcomes[type(error).__name__] += 1
                    if isinstance(error, httpx.ConnectError):
                        return
                    continue
                outcomes[str(reply.status_code)] += 1
                if reply.status_code == 200:
                    answered.add(reply.json()["metadata"]["request_id"])

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    raise SystemExit(asyncio.run(run(options.times, options.seed)))
