"""Row 10: 10,000 repeats of 1,000 Idempotency-Keys, 16 at a time: 1,000 charges, equal bytes.

python -m benchmarks.idempotency_drill [--keys 1000] [--repeats 10] [--seed N]
"""

import argparse
import asyncio
import random
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import httpx

from benchmarks.harness import (
    client_of,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
)
from tests.standins.running import running_provider

AT_ONCE = 16


async def run(keys: int, repeats: int, seed: int) -> int:
    order = [number for number in range(keys) for _ in range(repeats)]
    random.Random(seed).shuffle(order)
    bodies: dict[int, set[bytes]] = defaultdict(set)
    statuses: Counter[int] = Counter()
    with tempfile.TemporaryDirectory() as folder, running_provider(Path(folder)) as provider:
        vendor = {"OPENAI_API_KEY": "sk-standin", "OPENAI_BASE_URL": provider.openai_url}
        async with open_base() as base, open_service(base, workers=2, **vendor) as service:
            key = await make_tenant(service, "alpha", config={"model_tier": "gpt-4"})
            async with client_of(service, key) as client:
                todo = iter(order)

                async def work() -> None:
                    for number in todo:
                        reply = await _ask(client, number)
                        statuses[reply.status_code] += 1
                        if reply.status_code == 200:
                            bodies[number].add(reply.content)

                await asyncio.gather(*(work() for _ in range(AT_ONCE)))
                other = await _ask(client, 0, question="Something else?")
            rows = await base.value("SELECT count(*) FROM usage_events WHERE operation = 'query'")
            cost = await base.value("SELECT sum(cost_micro_usd) FROM usage_events")
        charged = sum(call["charged"] for call in provider.calls())
    facts = {"keys": keys, "requests": len(order), "at once": AT_ONCE,
             **{f"answered {s}": n for s, n in sorted(statuses.items())},
             "rows in the ledger": rows, "calls of the provider": charged,
             "charged, micro-USD": cost, "another body": other.status_code}  # fmt: skip
    claims = {
        "one charge for each key": rows == keys == charged,
        "every repeat answered, with the bytes of the first": statuses[200] == len(order)
        and len(bodies) == keys
        and all(len(seen) == 1 for seen in bodies.values()),
        "another body under the same key is refused with 422": other.status_code == 422,
    }
    return concluded("idempotency_drill", seed, facts, claims)


async def _ask(
    client: httpx.AsyncClient, number: int, *, question: str | None = None
) -> httpx.Response:
    body = {"query": question or f"How is customer data encrypted, question {number}?"}
    return await client.post("/query", json=body, headers={"Idempotency-Key": f"key-{number}"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    raise SystemExit(asyncio.run(run(options.keys, options.repeats, options.seed)))
