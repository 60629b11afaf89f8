"""What it costs to send one away: CPU microseconds of the server, on the wire and behind it.

A worker whose every request is too much, asked over connections that stay open by a process of its
own. Behind the wire is where a server without our connections (`uvicorn app:app`) decides.

python -m benchmarks.refusals [--requests 16000] [--rounds 3]
"""

import argparse
import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import uvicorn

from benchmarks.harness import QUESTION
from benchmarks.lines import Line, request_bytes
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.connections import BoundedConnection
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.tenancy.keys import make_secret

CONNECTIONS = 16
KINDS: dict[str, Any] = {"on the wire": BoundedConnection, "behind it": "httptools"}


def ask(port: int, requests: int) -> None:
    """Ask so often and be sent away each time; runs in a process of its own."""

    async def work() -> None:
        request = request_bytes("/query", make_secret(), QUESTION)

        async def one(line: Line) -> None:
            for _ in range(requests // CONNECTIONS):
                assert await line.ask(request) == 503
            line.close()

        await asyncio.gather(*(one(Line(port)) for _ in range(CONNECTIONS)))

    asyncio.run(work())


@asynccontextmanager
async def nothing() -> AsyncIterator[Any]:
    """Stand for the service: who is sent away never meets it."""
    yield SimpleNamespace(crowded=bool, queueing=bool)


async def cost(kind: Any, requests: int) -> float:
    """Return CPU microseconds of this process for each refusal."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        application = build_application(nothing, lambda: Deployment(most_in_flight=0))
        quiet: dict[str, Any] = {"access_log": False, "log_level": "warning"}
        config = uvicorn.Config(application, http=kind, ws="none", **quiet)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        asking = multiprocessing.get_context("spawn").Process(
            target=ask, args=(listener.getsockname()[1], requests)
        )
        began = time.process_time()
        asking.start()
        await asyncio.to_thread(asking.join)
        used = time.process_time() - began
        server.should_exit = True
        await serving
    assert asking.exitcode == 0
    return used / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    with asyncio.Runner(loop_factory=uvicorn.Config("x:y").get_loop_factory()) as runner:
        for _ in range(given.rounds):
            for name, kind in KINDS.items():
                found[name].append(runner.run(cost(kind, given.requests)))
    for name, costs in found.items():
        each = ", ".join(f"{one:.0f}" for one in costs)
        print(f"{name:<12} {statistics.median(costs):5.0f} microseconds each  ({each})")


if __name__ == "__main__":
    main()
