"""Row 13: a tenant at fifty times its limit, with 200 streams and a large ingest, and 20 others.

The quiet tenants ask at a steady pace, alone and beside the noise, in turns; each round of noise
brings an ingest of its own. The verdict is the median over the rounds of p95 beside / p95 alone.

python -m benchmarks.noisy_neighbour [--seconds 30] [--rounds 3] [--seed N]
"""

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from math import inf

from benchmarks.harness import (
    QUESTION,
    Service,
    client_of,
    concluded,
    make_tenant,
    open_base,
    open_service,
)
from benchmarks.lines import Line, percentile, request_bytes
from benchmarks.rounds import started

QUIET = 20
EACH_SECONDS = 0.5
LIMIT_A_MINUTE = 60
TIMES_ITS_LIMIT = 50
STREAMS = 200
DOCUMENTS = 1000
MOST_SLOWER = 1.25


async def quiet(
    service: Service, keys: list[str], seconds: float, chance: random.Random
) -> tuple[Counter[int], list[tuple[float, float]]]:
    """Let each quiet tenant ask at its pace; return statuses, and (sent, milliseconds) of each."""
    statuses: Counter[int] = Counter()
    latencies: list[tuple[float, float]] = []

    async def ask(key: str, offset: float) -> None:
        line, request = Line(service.port), request_bytes("/query", key, QUESTION)
        began = time.monotonic() + offset
        for number in range(int(seconds / EACH_SECONDS)):
            await asyncio.sleep(max(0.0, began + number * EACH_SECONDS - time.monotonic()))
            sent = time.monotonic()
            status = await line.ask(request)
            statuses[status] += 1
            latencies.append((sent, (time.monotonic() - sent) * 1000))
        line.close()

    await asyncio.gather(*(ask(key, chance.uniform(0, EACH_SECONDS)) for key in keys))
    return statuses, latencies


def p95(latencies: list[tuple[float, float]], until: float = inf) -> float:
    """Return the p95 in milliseconds of what was sent before an instant."""
    return percentile([took for sent, took in latencies if sent < until], 95)


async def noise(service: Service, key: str, statuses: Counter[int], ended: list[float]) -> None:
    """Stream at fifty times the limit over 200 connections, and ingest, until cancelled."""
    request = request_bytes("/query", key, {**QUESTION, "stream": True})
    pause = STREAMS * 60 / (LIMIT_A_MINUTE * TIMES_ITS_LIMIT)

    async def stream(place: int) -> None:
        line = Line(service.port)
        await asyncio.sleep(pause * place / STREAMS)
        try:
            while True:
                status = await line.ask(request)
                statuses[status] += 1
                await asyncio.sleep(pause)
        finally:
            line.close()

    async def ingest() -> None:
        text = "Clause {0}. Vendor {0} keeps its records for {0} months and names an owner.\n\n"
        documents = [
            {"document_id": f"doc-{n}", "text": text.format(n) * 5} for n in range(DOCUMENTS)
        ]
        async with client_of(service, key, seconds=300) as client:
            reply = await client.post("/ingest", json={"documents": documents})
            statuses[reply.status_code + 1000] += 1  # 1200: the ingest went through
            ended.append(time.monotonic())

    await asyncio.gather(ingest(), *(stream(place) for place in range(STREAMS)))


async def run(seconds: float, rounds: int, seed: int) -> int:
    chance = random.Random(seed)
    loud: Counter[int] = Counter()
    alone: Counter[int] = Counter()
    beside: Counter[int] = Counter()
    pairs: list[tuple[float, float]] = []
    ingests: list[float] = []
    during: list[float] = []
    async with open_base() as base, open_service(base, workers=2) as service:
        keys = [await make_tenant(service, f"quiet{n}") for n in range(QUIET)]
        # One for each round: else the minute of the round before would refuse the ingest.
        limits = {"requests_per_minute": LIMIT_A_MINUTE}
        noisy = [await make_tenant(service, f"noisy{n}", limits=limits) for n in range(rounds)]
        await quiet(service, keys, 3, chance)
        for key in noisy:
            statuses, latencies = await quiet(service, keys, seconds, chance)
            alone += statuses
            p95_alone, began = p95(latencies), time.monotonic()
            making = asyncio.create_task(noise(service, key, loud, ended := []))
            statuses, latencies = await quiet(service, keys, seconds, chance)
            beside += statuses
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
            pairs.append((p95_alone, p95(latencies)))
            ingests += [end - began for end in ended]
            during += [p95(latencies, until=end) for end in ended]
    slower = statistics.median(there / here for here, there in pairs)
    facts = {
        "quiet, alone": dict(alone),
        "quiet, beside the noise": dict(beside),
        "noise (1200: an ingest)": dict(loud),
        "p95 alone, ms": [round(here, 1) for here, _ in pairs],
        "p95 beside the noise, ms": [round(there, 1) for _, there in pairs],
        "slower": [f"{there / here:.2f}" for here, there in pairs],
        "slower, median": f"{slower:.2f} x",
        "seconds of the ingests": [round(took, 1) for took in ingests],
        "p95 while they ran, ms": [round(figure, 1) for figure in during],
        "load average of the machine at the end": os.getloadavg()[0],
    }
    misses = {
        "no quiet request refused": set(alone) | set(beside) == {200},
        f"p95 at most {MOST_SLOWER} x alone": slower <= MOST_SLOWER,
        "the noise was refused over its limit": loud[429] > 0,
    }
    return concluded("noisy neighbour", seed, facts, misses)


if __name__ == "__main__":
    started(__doc__, run, seconds=30.0)
