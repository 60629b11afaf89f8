"""The generator of load, a process of its own: a plan comes in, what the client saw goes out.

In the open loop requests leave at instants drawn before the run (Poisson), whether or not earlier
ones are back, and latency counts from that instant: a service that stalls cannot hide it
(coordinated omission). In the closed loop each of `lines` callers waits for its reply.

python -m benchmarks.load_traffic < plan.json > seen.json
"""

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate

import uvloop

from benchmarks.lines import Line, get_bytes, request_bytes
from benchmarks.load_corpora import question

Send = tuple[str, bytes]
"""The operation, and the request as it goes over the wire."""
Note = Callable[[str, int, float], None]
"""Takes down operation, status and seconds."""


@dataclass(frozen=True)
class Plan:
    """What is sent, by whom, when. `rate` None: closed loop over `lines` connections."""

    port: int
    seed: int
    keys: dict[str, str]
    chunks: int
    seconds: float
    warm_up_seconds: float = 3.0
    rate: float | None = None
    lines: int = 16
    requests: int | None = None
    zipf: float = 0.0
    ingest_share: float = 0.0
    metrics_share: float = 0.0
    repeats: int = 0
    """So many questions per tenant, over and over: the query cache then has something to give."""


@dataclass
class Seen:
    """What came back. Latencies in milliseconds, the warm-up left out."""

    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    by_operation: dict[str, list[float]] = field(default_factory=dict)
    billed: int = 0
    """Queries and ingests answered with 200, the warm-up included: so many ledger rows."""
    cpu_seconds: float = 0.0


class Traffic:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._chance = random.Random(plan.seed)
        tenants = list(plan.keys)
        self._chance.shuffle(tenants)
        self._tenants = tenants
        self._weights = list(accumulate(1 / (n + 1) ** plan.zipf for n in range(len(tenants))))
        self._idle: list[Line] = []
        self._statuses: Counter[str] = Counter()
        self._seen = Seen()
        self._sent = 0

    async def run(self) -> Seen:
        """Warm up, send, return what was seen."""
        plan = self._plan
        warm_up = self._load(plan.warm_up_seconds, None)
        load = self._load(plan.seconds, plan.requests)
        await warm_up(lambda *_: None)
        began, used = time.perf_counter(), _cpu_seconds()
        await load(self._note)
        self._seen.seconds = time.perf_counter() - began
        self._seen.cpu_seconds = _cpu_seconds() - used
        self._seen.statuses = dict(self._statuses)
        return self._seen

    def _note(self, operation: str, status: int, seconds: float) -> None:
        self._statuses[f"{operation} {status or 'no reply'}"] += 1
        if status == 200:
            self._seen.latencies.append(seconds * 1000)
            self._seen.by_operation.setdefault(operation, []).append(seconds * 1000)

    def _load(self, seconds: float, most: int | None) -> Callable[[Note], Awaitable[None]]:
        if self._plan.rate is None:
            return partial(self._closed, seconds, most)
        return partial(self._open, self._drawn(self._plan.rate, seconds, most))

    async def _open(self, sends: Sequence[tuple[float, Send]], note: Note) -> None:
        began, asked = time.perf_counter(), set()
        for after, send in sends:
            at = began + after
            if (wait := at - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            task = asyncio.ensure_future(self._ask(send, at, note))
            asked.add(task)
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)

    def _drawn(self, rate: float, seconds: float, most: int | None) -> list[tuple[float, Send]]:
        """Return what is sent, and after how many seconds: made before, the cores are shared."""
        after, drawn = 0.0, []
        while (after := after + self._chance.expovariate(rate)) < seconds:
            drawn.append((after, self._send()))
            if len(drawn) == most:
                break
        return drawn

    async def _closed(self, seconds: float, most: int | None, note: Note) -> None:
        end, left = time.perf_counter() + seconds, most

        async def caller() -> None:
            nonlocal left
            while (at := time.perf_counter()) < end and left != 0:
                left = None if left is None else left - 1
                await self._ask(self._send(), at, note)

        await asyncio.gather(*(caller() for _ in range(self._plan.lines)))

    async def _ask(self, send: Send, at: float, note: Note) -> None:
        operation, request = send
        line = self._idle.pop() if self._idle else Line(self._plan.port)
        status = await line.ask(request)
        self._idle.append(line)
        self._seen.billed += status == 200 and operation != "metrics"
        note(operation, status, time.perf_counter() - at)

    def _send(self) -> Send:
        plan, chance = self._plan, self._chance
        tenant = chance.choices(self._tenants, cum_weights=self._weights)[0]
        key, draw = plan.keys[tenant], chance.random()
        if draw < plan.ingest_share:
            self._sent += 1
            text = f"Note {plan.seed}-{self._sent}. {question(chance, plan.seed, plan.chunks)}"
            body = {"documents": [{"document_id": f"note-{self._sent % 50}", "text": text}]}
            return "ingest", request_bytes("/ingest", key, body)
        if draw < plan.ingest_share + plan.metrics_share:
            return "metrics", get_bytes(f"/metrics/{tenant}", key)
        if plan.repeats:
            chance = random.Random(f"{tenant} {chance.randrange(plan.repeats)}")
        asked = {"query": question(chance, plan.seed, plan.chunks)}
        return "query", request_bytes("/query", key, asked)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the plan of standard input."""
    plan = Plan(**json.load(sys.stdin))
    json.dump(asdict(uvloop.run(Traffic(plan).run())), sys.stdout)


if __name__ == "__main__":
    main()
