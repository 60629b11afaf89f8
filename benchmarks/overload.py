"""Three times the load that a service can take: what it still answers, against its peak.

The peak is measured first, with as many askers as give the most. Then requests come three times
as fast, whatever becomes of the ones before. Load and service share this machine's cores.

python -m benchmarks.overload [--seconds 15] [--seed N]
"""

import argparse
import asyncio
import random
import time
from collections import Counter

from benchmarks.harness import (
    QUESTION,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
)
from benchmarks.lines import Line, percentile, request_bytes

TENANTS = 10
ASKERS = 24
LINES = 1500
TIMES = 3


async def closed(port: int, requests: list[bytes], seconds: float) -> float:
    """Return answers a second when each asker waits for its reply."""
    ends, answered = time.monotonic() + seconds, 0

    async def ask(number: int) -> None:
        nonlocal answered
        line = Line(port)
        while time.monotonic() < ends:
            status = await line.ask(requests[number % len(requests)])
            answered += status == 200
        line.close()

    await asyncio.gather(*(ask(number) for number in range(ASKERS)))
    return answered / seconds


async def opened(
    port: int, requests: list[bytes], rate: float, seconds: float, chance: random.Random
) -> tuple[Counter[int], list[float]]:
    """Send at a rate, whatever becomes of it; return statuses within the time, and latencies."""
    free = [Line(port) for _ in range(LINES)]
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    began = time.monotonic()

    async def ask(line: Line) -> None:
        sent = time.monotonic()
        status = await line.ask(chance.choice(requests))
        now = time.monotonic()
        if now <= began + seconds:
            statuses[status] += 1
            if status == 200:
                latencies.append((now - sent) * 1000)
        free.append(line)

    waiting: set[asyncio.Task[None]] = set()
    sent = 0
    while (now := time.monotonic()) < began + seconds:
        due = int((now - began) * rate) - sent
        for _ in range(due):
            sent += 1
            if not free:
                statuses[-1] += 1  # more than the drill has connections
                continue
            task = asyncio.create_task(ask(free.pop()))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        await asyncio.sleep(0.005)
    await asyncio.wait(waiting, timeout=60) if waiting else None
    for line in free:
        line.close()
    return statuses, latencies


async def run(seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    async with open_base() as base, open_service(base) as service:
        keys = [await make_tenant(service, f"tenant{n}") for n in range(TENANTS)]
        requests = [request_bytes("/query", key, QUESTION) for key in keys]
        await closed(service.port, requests, 3)
        peak = await closed(service.port, requests, seconds)
        statuses, latencies = await opened(service.port, requests, TIMES * peak, seconds, chance)
        good = statuses[200] / seconds
        after = await closed(service.port, requests, 5)
    facts = {
        "peak, answers a second": round(peak, 1),
        "offered, requests a second": round(TIMES * peak, 1),
        "answered, a second": round(good, 1),
        "goodput of the peak": f"{good / peak:.0%}",
        "statuses (-1: no connection left, 0: no reply)": dict(statuses),
        "p95 of the answered, ms": round(percentile(latencies, 95), 1),
        "afterwards, answers a second": round(after, 1),
    }
    misses = {
        "goodput at least 90 % of the peak": good >= 0.9 * peak,
        "nothing but answers and refusals": set(statuses) <= {200, 503, -1},
    }
    return concluded("overload", seed, facts, misses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = new_seed() if given.seed is None else given.seed
    raise SystemExit(asyncio.run(run(given.seconds, seed)))


if __name__ == "__main__":
    main()
