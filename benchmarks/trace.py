"""The trace of one agentic question, drawn as a tree: from the caller's request to the settlement.

The service runs in a process of its own, a stand-in vendor answers, and an OTLP collector on
loopback takes the spans; the tree is drawn from what arrived there.

python -m benchmarks.trace [--question TEXT]
"""

import argparse
import asyncio
import sys
from pathlib import Path

from benchmarks.harness import UNLIMITED, client_of, make_tenant, open_base, open_service, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.standins.collector import Collector, Received, drawn, running_collector
from tests.standins.running import running_provider

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
QUESTION = "How long are customer records kept, and who approves that they are destroyed?"
RETENTION = (
    "# Retention\n\nCustomer records are kept for seven years. They are destroyed as Section 4 of "
    "the Disposal Policy says.\n"
)
DISPOSAL = (
    "# Disposal Policy\n\n## Section 4 Destruction\n\nThe data protection officer approves that "
    "records are destroyed.\n"
)


async def whole_trace(collector: Collector) -> list[Received]:
    """Return the spans of the caller's trace, once its first one has arrived too."""

    async def is_whole() -> bool:
        return any(span.name == "POST /query" for span in collector.traces().get(TRACE, ()))

    if await until(is_whole, seconds=30) is None:
        raise RuntimeError("the spans did not arrive")
    return collector.traces()[TRACE]


async def run(question: str) -> int:
    async with open_base() as base:
        with running_provider(base.folder) as vendor, running_collector() as collector:
            variables = {
                "OTLP_ENDPOINT": collector.url,
                "OPENAI_API_KEY": "sk-drill",
                "OPENAI_BASE_URL": vendor.openai_url,
            }
            async with open_service(base, **variables) as service:
                config = {"model_tier": "gpt-4", "retrieval_mode": "agentic"}
                key = await make_tenant(service, "acme_corp", config=config, limits=UNLIMITED)
                async with client_of(service, key) as client:
                    texts = [{"text": RETENTION}, {"text": DISPOSAL, "title": "Disposal Policy"}]
                    stored = await client.post("/ingest", json={"documents": texts})
                    stored.raise_for_status()
                    reply = await client.post("/query", json={"query": question}, headers=CALLER)
                trace = await whole_trace(collector)
    print(f"{question}\n{reply.json()['outcome']}: {reply.json()['answer']}\n\ntrace {TRACE}")
    print(drawn(trace))
    return 0 if reply.status_code == 200 else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--question", default=QUESTION)
    raise SystemExit(asyncio.run(run(parser.parse_args().question)))


if __name__ == "__main__":
    main()
