"""Row 9: readers of streams who leave at random offsets: one exact ledger row for each call.

The stand-in provider logs every call: its log is the truth, and the ledger is held against it.

python -m benchmarks.disconnect_drill [--disconnects 200] [--at-once 8]
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.harness import (
    QUESTION,
    Base,
    Service,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
    until,
)
from tests.standins.running import running_provider

BODY = json.dumps({**QUESTION, "stream": True}).encode()
OPEN = "SELECT count(*) FROM usage_events WHERE state = 'reserved'"
ROWS = """
    SELECT request_id, attempt, state, estimated, provider_response_id, input_tokens, output_tokens
    FROM usage_events WHERE operation = 'query'
"""


async def run(disconnects: int, at_once: int, seed: int) -> int:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, running_provider(Path(folder)) as provider:
        vendor = {"OPENAI_API_KEY": "sk-standin", "OPENAI_BASE_URL": provider.openai_url}
        async with open_base() as base, open_service(base, **vendor) as service:
            uncached = {"model_tier": "gpt-4", "cache": False}
            key = await make_tenant(service, "alpha", config=uncached)
            provider.fault("drip", seconds=0.002)  # so that a stream lasts
            length = len(await read(service, key, None))
            gate = asyncio.Semaphore(at_once)
            offsets = [chance.randrange(length) for _ in range(disconnects)]

            async def leave(offset: int) -> None:
                async with gate:
                    await read(service, key, offset)

            await asyncio.gather(*(leave(offset) for offset in offsets))
            closed = await until(lambda: _all_closed(base), seconds=60.0)
            rows = await base.rows(ROWS)
            wrong = await base.rows("SELECT * FROM verify_sums('alpha')")
            calls = {c["request_id"]: c for c in provider.calls() if c["charged"]}
    ids = Counter(row["provider_response_id"] for row in rows)
    exact = [
        row
        for row in rows
        if (call := calls.get(row["provider_response_id"] or "")) is not None
        and (call["input_tokens"], call["output_tokens"])
        == (row["input_tokens"], row["output_tokens"])
    ]
    facts = {
        "bytes of a whole stream": length, "disconnects": disconnects,
        "earliest and latest offset": (min(offsets), max(offsets)),
        "charged calls of the provider": len(calls), "rows": len(rows),
        "states": dict(Counter(row["state"] for row in rows)),
        "estimated": sum(row["estimated"] for row in rows), "closed after, s": closed,
    }  # fmt: skip
    claims = {
        "one row for each stream, and for the whole one": len(rows) == disconnects + 1,
        "one call for each row": len(calls) == len(rows) and all(n == 1 for n in ids.values()),
        "tokens are exact": len(exact) == len(rows),
        "nothing is estimated": not any(row["estimated"] for row in rows),
        "nothing stays reserved": closed is not None,
        "the sums equal the ledger": wrong == [],
    }
    return concluded("disconnect_drill", seed, facts, claims)


async def read(service: Service, key: str, offset: int | None) -> bytes:
    """Ask for a stream and cut the connection after so many bytes; None: read it all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = (
        f"POST /query HTTP/1.1\r\nHost: copilot\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
        "Connection: close\r\n\r\n"
    )
    writer.write(head.encode() + BODY)
    await writer.drain()
    try:
        if offset is None:
            return await reader.read(-1)
        if offset == 0:
            await asyncio.sleep(0.1)  # what never arrived is no request
        return await reader.readexactly(offset)
    except asyncio.IncompleteReadError as error:  # request ids and figures differ in length
        return error.partial
    finally:
        writer.transport.abort()


async def _all_closed(base: Base) -> bool:
    return int(await base.value(OPEN)) == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--disconnects", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    raise SystemExit(asyncio.run(run(options.disconnects, options.at_once, options.seed)))
