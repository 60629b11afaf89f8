"""What each layer between the wire and a route costs a request, in microseconds of CPU.

    python -m benchmarks.middleware [--requests N]

Each layer is put around an application that only answers, and called without a server; the cost
of that application alone is taken off. The best of several rounds, so that what else runs here
counts as little as may be. The bar is 50 microseconds for each of ours.
"""

import argparse
import asyncio
import io
import logging
import tempfile
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from benchmarks.harness import concluded
from compliance_copilot.gateway.crowd import Crowd, Queues
from compliance_copilot.gateway.guards import Patience
from compliance_copilot.gateway.middleware import Door
from compliance_copilot.gateway.peers import Peers
from compliance_copilot.gateway.refusing import Entrance, Turnstile
from compliance_copilot.gateway.turns import Turns
from compliance_copilot.telemetry import logs, sharing

Message = MutableMapping[str, Any]
Layer = Callable[..., Any]
MOST_MICROSECONDS = 50.0
ROUNDS = 7
BODY = b'{"query": "How is customer data at rest encrypted?"}'
HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"authorization", b"Bearer cc_live_not_looked_at_here"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(BODY)).encode()),
]


async def answering(_scope: Message, receive: Layer, send: Layer) -> None:
    """Read the body and answer."""
    await receive()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})


def counted(app: Layer) -> Layer:
    """Return the layer that lets in and counts, with nobody queueing."""
    crowd, alone = Crowd(lambda: 1000, Queues(lambda: False, lambda: False)), Peers()
    return Turnstile(app, Entrance(crowd, Turns(alone), alone))


async def microseconds(app: Layer, requests: int) -> float:
    """Return the CPU of one request: the best of some rounds."""

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(_message: Message) -> None:
        return None

    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(requests):
            scope = {"type": "http", "method": "POST", "path": "/query", "headers": HEADERS}
            await app({**scope, "state": {}}, receive, send)
        best = min(best, time.process_time() - began)
    return best / requests * 1e6


async def run(requests: int) -> int:
    """Measure each layer alone, as a serving process has it: shared metrics, lines in JSON."""
    layers: dict[str, tuple[Layer, str]] = {
        "who is let in (Turnstile)": (counted, "INFO"),
        "id, headers, metrics, no line (Door)": (Door, "WARNING"),
        "the same with its line in the log": (Door, "INFO"),
        "a body in time (Patience)": (Patience, "INFO"),
    }
    with tempfile.TemporaryDirectory(prefix="cc-layers-") as folder:
        sharing.prepare(Path(folder), alone=True)
        with sharing.shared(Path(folder), most_tenants=100):
            bare = await microseconds(answering, requests)
            costs = {}
            for name, (layer, level) in layers.items():
                logs.configure(level, readable=False)
                for handler in logging.root.handlers:
                    if isinstance(handler, logging.StreamHandler):
                        handler.setStream(io.StringIO())
                costs[name] = await microseconds(layer(answering), requests) - bare
    facts = {name: f"{cost:.1f} µs" for name, cost in costs.items()}
    claims = {f"{name}: < 50 µs": cost < MOST_MICROSECONDS for name, cost in costs.items()}
    return concluded("middleware", 0, facts, claims)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="of each round")
    raise SystemExit(asyncio.run(run(parser.parse_args().requests)))


if __name__ == "__main__":
    main()
