"""Row 13: a tenant at fifty times its limit, with 200 streams and a large ingest, and 20 others.

The quiet tenants ask at a steady pace, first alone and then beside the noise.

python -m benchmarks.noisy_neighbour [--seconds 20] [--seed N]
"""

import argparse
import asyncio
import random
import time
from collections import Counter

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
from benchmarks.lines import Line, percentile, request_bytes

QUIET = 20
EACH_SECONDS = 0.5
LIMIT_A_MINUTE = 60
TIMES_ITS_LIMIT = 50
STREAMS = 200
DOCUMENTS = 1000
MOST_SLOWER = 1.25


async def quiet(
    service: Service, keys: list[str], seconds: float, chance: random.Random
) -> tuple[Counter[int], float]:
    """Let each quiet tenant ask at its pace; return statuses and the p95 in milliseconds."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []

    async def ask(key: str, offset: float) -> None:
        line, request = Line(service.port), request_bytes("/query", key, QUESTION)
        began = time.monotonic() + offset
        for number in range(int(seconds / EACH_SECONDS)):
            await asyncio.sleep(max(0.0, began + number * EACH_SECONDS - time.monotonic()))
            sent = time.monotonic()
            status = await line.ask(request)
            statuses[status] += 1
            latencies.append((time.monotonic() - sent) * 1000)
        line.close()

    await asyncio.gather(*(ask(key, chance.uniform(0, EACH_SECONDS)) for key in keys))
    return statuses, percentile(latencies, 95)


async def noise(service: Service, key: str, statuses: Counter[int]) -> None:
    """Stream at fifty times the limit over 200 connections, and ingest, until cancelled."""
    request = request_bytes("/query", key, {**QUESTION, "stream": True})
    pause = STREAMS * 60 / (LIMIT_A_MINUTE * TIMES_ITS_LIMIT)

    async def stream(number: int) -> None:
        line = Line(service.port)
        await asyncio.sleep(pause * number / STREAMS)
        while True:
            status = await line.ask(request)
            statuses[status] += 1
            await asyncio.sleep(pause)

    async def ingest() -> None:
        text = "Clause {0}. Vendor {0} keeps its records for {0} months and names an owner.\n\n"
        documents = [
            {"document_id": f"doc-{n}", "text": text.format(n) * 5} for n in range(DOCUMENTS)
        ]
        async with client_of(service, key, seconds=300) as client:
            reply = await client.post("/ingest", json={"documents": documents})
            statuses[reply.status_code + 1000] += 1  # 1200: the ingest went through

    await asyncio.gather(ingest(), *(stream(number) for number in range(STREAMS)))


async def run(seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    loud: Counter[int] = Counter()
    async with open_base() as base, open_service(base, workers=2) as service:
        keys = [await make_tenant(service, f"quiet{n}") for n in range(QUIET)]
        noisy = await make_tenant(service, "noisy", limits={"requests_per_minute": LIMIT_A_MINUTE})
        await quiet(service, keys, 3, chance)
        alone, p95_alone = await quiet(service, keys, seconds, chance)
        making = asyncio.create_task(noise(service, noisy, loud))
        await asyncio.sleep(1)
        beside, p95_beside = await quiet(service, keys, seconds, chance)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
    facts = {
        "quiet, alone": dict(alone),
        "quiet, beside the noise": dict(beside),
        "noise (1200: the ingest)": dict(loud),
        "p95 alone, ms": round(p95_alone, 1),
        "p95 beside the noise, ms": round(p95_beside, 1),
        "slower": f"{p95_beside / p95_alone:.2f} x",
    }
    misses = {
        "no quiet request refused": set(alone) | set(beside) == {200},
        f"p95 at most {MOST_SLOWER} x alone": p95_beside <= MOST_SLOWER * p95_alone,
        "the noise was refused over its limit": loud[429] > 0,
    }
    return concluded("noisy neighbour", seed, facts, misses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = new_seed() if given.seed is None else given.seed
    raise SystemExit(asyncio.run(run(given.seconds, seed)))


if __name__ == "__main__":
    main()
