"""Acceptance rows 1 and 2: random operations of many tenants, 30 % cancelled, a pool of four.

Every sentence of every tenant carries that tenant's canary; a foreign one in an answer, a search,
a list, a text or any log line (all of them read at DEBUG) is counted.

python benchmarks/isolation_random.py --operations 100000 --tenants 100 --seed 1
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compliance_copilot import wiring
from compliance_copilot.settings import Settings, load_settings
from compliance_copilot.storage import migrations
from compliance_copilot.storage.embedded import EmbeddedServer, open_embedded
from compliance_copilot.wiring import open_service
from tests.isolation import drills


class LogLines(logging.Handler):
    """Counts log lines, and those in which a document's word stands."""

    lines = canaries = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at everything that a record carries."""
        self.lines += 1
        self.canaries += "canary" in f"{record.getMessage()} {record.__dict__}"


@asynccontextmanager
async def slow_proxy(
    server: EmbeddedServer, delay_ms: float, seed: int
) -> AsyncIterator[Path | None]:
    """Give a folder whose socket passes everything on, each piece after a random wait."""
    if not delay_ms:
        yield None
        return
    numbers = random.Random(seed)
    name = f".s.PGSQL.{server.port}"

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65_536):
                await asyncio.sleep(numbers.random() * delay_ms / 1000)
                sink.write(piece)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_unix_connection(
            str(Path(server.host) / name)
        )
        await asyncio.gather(pump(reader, behind_writer), pump(behind_reader, writer))

    with tempfile.TemporaryDirectory(prefix="cc-proxy-") as folder:
        async with await asyncio.start_unix_server(serve, str(Path(folder) / name)):
            owner = server.dsn(server.superuser, "postgres")
            await migrations.ensure_database(owner, wiring.DATABASE)
            yield Path(folder)


def _through(settings: Settings, server: EmbeddedServer, proxy: Path | None) -> Settings:
    if proxy is None:
        return settings
    slow = replace(server, host=str(proxy)).dsn(wiring.SERVING_ROLE, wiring.DATABASE)
    straight = server.dsn(server.superuser, wiring.DATABASE)
    update = {"database_url": SecretStr(slow), "database_owner_url": SecretStr(straight)}
    return settings.model_copy(update=update)


async def run(operations: int, tenants: int, seed: int, delay_ms: float) -> int:
    """Run the drill on a fresh embedded database; 0 when nothing foreign was seen."""
    with tempfile.TemporaryDirectory(prefix="cc-random-") as folder:
        settings = load_settings(
            environment="test", data_dir=Path(folder), database_pool_size=4, load_examples=False
        )
        logged = LogLines()
        logging.getLogger().addHandler(logged)
        logging.getLogger().setLevel(logging.DEBUG)
        began = time.monotonic()
        async with (
            open_embedded(Path(folder)) as server,
            slow_proxy(server, delay_ms, seed) as through,
            open_service(_through(settings, server, through)) as service,
        ):
            ids = await drills.make_tenants(service, tenants)
            tally = await drills.random_operations(service, ids, operations=operations, seed=seed)
            left = await drills.leftovers(service.tenants._database, 4)
    seconds = time.monotonic() - began
    slow = f", a proxy that waits up to {delay_ms:g} ms" if delay_ms else ""
    print(f"seed {seed}, {tenants} tenants, pool of 4{slow}, {seconds:.0f} s")
    print(tally.verdict())
    print(f"{logged.lines} log lines, {logged.canaries} with a canary")
    print(f"connections that still carry a tenant: {len(left)}")
    for line in tally.foreign[:20]:
        print(line)
    return 1 if tally.foreign or left or logged.canaries else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay-ms", type=float, default=0)
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.operations, given.tenants, given.seed, given.delay_ms)))
