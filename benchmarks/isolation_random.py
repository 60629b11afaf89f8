"""Acceptance rows 1 and 2: random operations of many tenants, 30 % cancelled, a pool of four.

Every sentence of every tenant carries that tenant's canary; a foreign one in an answer, a search,
a list, a text or any log line (all of them read at DEBUG) is counted.

python benchmarks/isolation_random.py --operations 100000 --tenants 100 --seed 1
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compliance_copilot.settings import load_settings
from compliance_copilot.storage.embedded import open_embedded
from compliance_copilot.wiring import open_service
from tests.isolation import drills


class LogLines(logging.Handler):
    """Counts log lines, and those in which a document's word stands."""

    lines = canaries = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Look at everything that a record carries."""
        self.lines += 1
        self.canaries += "canary" in f"{record.getMessage()} {record.__dict__}"


async def run(operations: int, tenants: int, seed: int) -> int:
    """Run the drill on a fresh embedded database; 0 when nothing foreign was seen."""
    with tempfile.TemporaryDirectory(prefix="cc-random-") as folder:
        settings = load_settings(
            environment="test", data_dir=Path(folder), database_pool_size=4, load_examples=False
        )
        logged = LogLines()
        logging.getLogger().addHandler(logged)
        logging.getLogger().setLevel(logging.DEBUG)
        began = time.monotonic()
        async with open_embedded(Path(folder)), open_service(settings) as service:
            ids = await drills.make_tenants(service, tenants)
            tally = await drills.random_operations(service, ids, operations=operations, seed=seed)
            left = await drills.leftovers(service.tenants._database, 4)
    seconds = time.monotonic() - began
    print(f"seed {seed}, {tenants} tenants, pool of 4, {seconds:.0f} s")
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
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.operations, given.tenants, given.seed)))
