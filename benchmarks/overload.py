"""Three times the load that a service can take: what it still answers, against its peak.

The peak is measured with as many askers as give the most. Then requests come three times as fast,
whatever becomes of the ones before; then the peak is measured again, because a ledger that grows
and a machine that changes would count against whatever comes second. Several rounds; the verdict
is the median.

Load and service share this machine's cores, and three times the requests cost the load's side more
too. Its CPU time is measured in both phases; the corrected goodput is the measured one divided by
(cores - CPU a second of the load at 3 x) / (cores - CPU a second of the load at the peak).

Clocks tell little on a machine with other work. CPU time of service and database for each answer,
its share of the refusals included, tells what shedding itself takes away: it is printed too.

python -m benchmarks.overload [--seconds 10] [--rounds 3] [--seed N]
"""

import asyncio
import os
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from typing import Self

from benchmarks.harness import (
    QUESTION,
    concluded,
    make_tenant,
    open_base,
    open_service,
)
from benchmarks.lines import Line, percentile, request_bytes
from benchmarks.processes import used_by
from benchmarks.rounds import started

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


@dataclass(frozen=True)
class Round:
    """One peak and one overload after it: answers a second, and what they took."""

    peak: float
    good: float
    load_at_peak: float
    """CPU seconds a second of the load's side."""
    load_over: float
    answer_at_peak: float
    """CPU milliseconds of service and database for each answer."""
    answer_over: float
    statuses: Counter[int]
    p95: float

    @property
    def measured(self) -> float:
        """Goodput as a share of the peak."""
        return self.good / self.peak

    @property
    def corrected(self) -> float:
        """The same, as if the load's own further work had not taken from the service."""
        cores = len(os.sched_getaffinity(0))
        return self.measured * (cores - self.load_at_peak) / (cores - self.load_over)


@dataclass(frozen=True)
class Spent:
    """CPU seconds so far: of the load, and of what is measured."""

    load: float
    served: float

    @classmethod
    def by(cls, pids: list[int]) -> Self:
        """Look."""
        return cls(time.process_time(), sum(used_by(pid).cpu_seconds for pid in pids))


async def one_round(
    port: int, pids: list[int], requests: list[bytes], seconds: float, chance: random.Random
) -> Round:
    """Measure a peak, three times its load, and the peak again: between the two it is judged."""
    first = await peak_of(port, pids, requests, seconds / 2)
    start, began = Spent.by(pids), time.monotonic()
    statuses, latencies = await opened(port, requests, TIMES * first.rate, seconds, chance)
    end, took = Spent.by(pids), time.monotonic() - began
    second = await peak_of(port, pids, requests, seconds / 2)
    return Round(
        peak=(first.rate + second.rate) / 2,
        good=statuses[200] / seconds,
        load_at_peak=(first.load + second.load) / 2,
        load_over=(end.load - start.load) / took,
        answer_at_peak=(first.answer + second.answer) / 2,
        answer_over=(end.served - start.served) / statuses[200] * 1000,
        statuses=statuses,
        p95=percentile(latencies, 95),
    )


@dataclass(frozen=True)
class Peak:
    """Answers a second, CPU seconds a second of the load, CPU milliseconds for an answer."""

    rate: float
    load: float
    answer: float


async def peak_of(port: int, pids: list[int], requests: list[bytes], seconds: float) -> Peak:
    """Measure how many are answered when each asker waits for its reply."""
    start = Spent.by(pids)
    rate = await closed(port, requests, seconds)
    end = Spent.by(pids)
    answer = (end.served - start.served) / (rate * seconds) * 1000
    return Peak(rate, (end.load - start.load) / seconds, answer)


async def run(seconds: float, rounds: int, seed: int) -> int:
    chance = random.Random(seed)
    async with open_base() as base, open_service(base) as service:
        keys = [await make_tenant(service, f"tenant{n}") for n in range(TENANTS)]
        requests = [request_bytes("/query", key, QUESTION) for key in keys]
        await closed(service.port, requests, 3)
        assert service.process is not None
        pids = [service.process.pid, base.pid]
        done = [
            await one_round(service.port, pids, requests, seconds, chance) for _ in range(rounds)
        ]
        after = await closed(service.port, requests, 3)
    statuses = sum((r.statuses for r in done), Counter[int]())
    corrected = statistics.median(r.corrected for r in done)
    facts = {
        "peak, answers a second": [round(r.peak, 1) for r in done],
        f"answered at {TIMES} x, a second": [round(r.good, 1) for r in done],
        "goodput of the peak, measured": [f"{r.measured:.0%}" for r in done],
        "CPU a second of the load, peak": [round(r.load_at_peak, 2) for r in done],
        f"CPU a second of the load, {TIMES} x": [round(r.load_over, 2) for r in done],
        "goodput of the peak, corrected": [f"{r.corrected:.0%}" for r in done],
        "medians, measured and corrected": (
            f"{statistics.median(r.measured for r in done):.0%}, {corrected:.0%}"
        ),
        "CPU ms for an answer, peak": [round(r.answer_at_peak, 2) for r in done],
        f"CPU ms for an answer, {TIMES} x": [round(r.answer_over, 2) for r in done],
        "goodput of the peak, by CPU, median": (
            f"{statistics.median(r.answer_at_peak / r.answer_over for r in done):.0%}"
        ),
        "load average of the machine at the end": os.getloadavg()[0],
        "statuses (-1: no connection left, 0: no reply)": dict(statuses),
        "p95 of the answered, ms": [round(r.p95) for r in done],
        "afterwards, answers a second": round(after, 1),
    }
    misses = {
        "goodput at least 90 % of the peak": corrected >= 0.9,
        "nothing but answers and refusals": set(statuses) <= {200, 503, -1},
    }
    return concluded("overload", seed, facts, misses)


if __name__ == "__main__":
    started(__doc__, run, seconds=10.0)
