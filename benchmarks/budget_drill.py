"""Row 11: 500 requests at once against a budget that carries 50: never over, nothing stays held.

python -m benchmarks.budget_drill [--requests 500] [--carried 50] [--seed N]
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.harness import (
    QUESTION,
    Base,
    client_of,
    concluded,
    insisted,
    make_tenant,
    new_seed,
    open_base,
    open_service,
    until,
)
from tests.standins.running import running_provider

MOST = "SELECT coalesce(max(held_micro_usd + settled_micro_usd), 0) FROM spend_months"
HELD = "SELECT coalesce(sum(held_micro_usd), 0) FROM spend_months"
RESERVED = "SELECT max(reserved_micro_usd) FROM usage_events WHERE operation = 'query'"


async def run(requests: int, carried: int, seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder, running_provider(Path(folder)) as provider:
        vendor = {"OPENAI_API_KEY": "sk-standin", "OPENAI_BASE_URL": provider.openai_url}
        async with open_base() as base, open_service(base, workers=2, **vendor) as service:
            tier = {"model_tier": "gpt-4"}
            async with client_of(service, await make_tenant(service, "probe", config=tier)) as one:
                assert (await one.post("/query", json=QUESTION)).status_code == 200
            worst = await base.value(RESERVED)
            budget = worst * carried
            limits = {"monthly_budget_usd": budget / 1_000_000}
            key = await make_tenant(service, "alpha", config=tier, limits=limits)
            provider.fault("delay", seconds=2.0)  # so that holds overlap
            seen: list[int] = []
            watching = asyncio.create_task(_watch(base, seen))
            began = time.monotonic()
            async with client_of(service, key) as client:
                replies = await asyncio.gather(
                    *(insisted(client, "/query", QUESTION) for _ in range(requests))
                )
            seconds = time.monotonic() - began
            freed = await until(lambda: _nothing_held(base), seconds=60)
            watching.cancel()
            statuses = Counter(reply.status_code for reply in replies)
            codes = Counter(r.json()["code"] for r in replies if r.status_code == 429)
            spent = await base.value("SELECT sum(cost_micro_usd) FROM usage_events")
            wrong = await base.rows("SELECT * FROM verify_sums('alpha')")
    facts = {"requests at once": requests, "budget, micro-USD": budget,
             **{f"answered {s}": n for s, n in sorted(statuses.items())},
             "most held and spent at any look": max(seen), "looks": len(seen),
             "spent, micro-USD": spent, "seconds": round(seconds, 1)}  # fmt: skip
    claims = {
        "never over the budget": max(seen) <= budget,
        f"at least the {carried} it surely carries were answered": statuses[200] >= carried,
        "all others refused for the budget": statuses[200] + codes["budget_exhausted"] == requests,
        "nothing held within 60 s": freed is not None,
        "the sums equal the ledger": wrong == [],
    }
    return concluded("budget_drill", seed, facts, claims)


async def _watch(base: Base, seen: list[int]) -> None:
    while True:
        seen.append(await base.value(MOST + " WHERE tenant_id = 'alpha'"))
        await asyncio.sleep(0.05)


async def _nothing_held(base: Base) -> bool:
    return int(await base.value(HELD)) == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--carried", type=int, default=50)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    random.seed(options.seed)  # when the shed ones come again
    raise SystemExit(asyncio.run(run(options.requests, options.carried, options.seed)))
