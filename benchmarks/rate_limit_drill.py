"""Row 12: a limit of 100, four worker processes, 2,000 requests at once: exactly 100 get in.

What a worker sheds for the crowd (503) asks again until the limit has decided.

python -m benchmarks.rate_limit_drill [--requests 2000] [--workers 4] [--limit 100] [--seed N]
"""

import argparse
import asyncio
import random
from collections import Counter

from benchmarks.harness import (
    QUESTION,
    client_of,
    concluded,
    insisted,
    make_tenant,
    new_seed,
    open_base,
    open_service,
)


async def run(requests: int, workers: int, limit: int, seed: int) -> int:
    async with open_base() as base, open_service(base, workers=workers) as service:
        key = await make_tenant(service, "alpha", limits={"max_queries_per_hour": limit})
        async with client_of(service, key) as client:

            async def ask() -> tuple[int, str, bool]:
                reply = await insisted(client, "/search", QUESTION)
                told = {"retry-after", "ratelimit", "ratelimit-policy"} <= set(reply.headers)
                return reply.status_code, str(reply.json().get("limit")), told

            replies = await asyncio.gather(*(ask() for _ in range(requests)))
        statuses = Counter(status for status, _, _ in replies)
        refused = [(limit, told) for status, limit, told in replies if status == 429]
        rows = await base.value("SELECT count(*) FROM usage_events WHERE operation = 'search'")
    facts = {"requests at once": requests, "worker processes": workers, **_named(statuses),
             "rows in the ledger": rows}  # fmt: skip
    claims = {
        f"exactly {limit} admitted": statuses[200] == limit == rows,
        "all others refused, none lost": statuses[429] == requests - limit,
        "each refusal names the limit and when to come again": all(
            name == "max_queries_per_hour" and told for name, told in refused
        ),
    }
    return concluded("rate_limit_drill", seed, facts, claims)


def _named(statuses: Counter[int]) -> dict[str, object]:
    return {f"answered {status}": count for status, count in sorted(statuses.items())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    random.seed(options.seed)  # when the shed ones come again
    raise SystemExit(
        asyncio.run(run(options.requests, options.workers, options.limit, options.seed))
    )
