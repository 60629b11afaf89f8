"""Acceptance row 3: tenant A alone against A beside a B ten times larger; bytes must be equal.

python benchmarks/isolation_interference.py --questions 500 --seed 1 [--evict]

With `--evict` the hot index has room for B or for A, not for both: A alone is answered from the
hot index, A beside B from SQL, again and again.
"""

import argparse
import asyncio
import pickle
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from compliance_copilot.core.vocabulary import NewDocument, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import load_settings
from compliance_copilot.wiring import open_service
from tests.conftest import make_customer
from tests.isolation import drills

WORDS = [
    "record", "archive", "customer", "backup", "password", "visitor", "invoice", "supplier",
    "incident", "breach", "laptop", "phone", "key", "audit", "owner", "manager", "board", "year",
    "month", "day", "approval", "exception", "risk", "asset", "contract", "training",
]  # fmt: skip


def document(numbers: random.Random, number: int) -> NewDocument:
    """A document of random rules."""
    rules = [
        f"## {n}. {numbers.choice(WORDS).title()}\n\nEvery {numbers.choice(WORDS)} needs a "
        f"{numbers.choice(WORDS)} from the {numbers.choice(WORDS)} within {n + 1} days, and the "
        f"{numbers.choice(WORDS)} keeps the {numbers.choice(WORDS)} for {n + 2} years."
        for n in range(10)
    ]
    return NewDocument(f"# Policy {number}\n\n" + "\n\n".join(rules), f"policy-{number}")


async def run(count: int, seed: int, *, evict: bool) -> int:
    """Ask A, bring B in, ask A again; 0 when not a byte differs."""
    numbers = random.Random(seed)
    questions = [
        f"How long does the {numbers.choice(WORDS)} keep the {numbers.choice(WORDS)}?"
        for _ in range(count)
    ]
    with tempfile.TemporaryDirectory(prefix="cc-interference-") as folder:
        settings = load_settings(
            environment="test",
            data_dir=Path(folder),
            load_examples=False,
            hot_index_megabytes=3 if evict else 512,
        )
        async with open_service(settings) as service:
            a = TenantId((await make_customer(service, "tenant-a")).tenant_id)
            await service.copilot.ingest(a, [document(numbers, n) for n in range(20)])
            await drills.warm(service, a)
            alone = pickle.dumps(await drills.transcript(service, a, questions))
            await fill(service, numbers)
            seen, files = [], Path(folder) / "hot"
            index = service.copilot._rooms.retriever.index
            for start in range(0, count, 25):
                if evict:  # what a worker has mapped it keeps for seconds: not in this run
                    index._hot.clear()
                for question in questions[:5]:
                    await service.copilot.query("tenant-b", question)
                await index.settled()
                gone = not list(files.glob("tenant-a/*.corpus"))
                if evict and not gone:
                    print("B did not evict A: the figure would say nothing")
                    return 2
                seen += await drills.transcript(service, a, questions[start : start + 25])
            beside = pickle.dumps(seen)
    same = alone == beside
    print(f"seed {seed}: {count} questions x 2 modes, A 200 chunks, B 2,000 chunks", end="")
    print(", A evicted by B every 25 questions" if evict else "")
    print(f"{len(alone)} bytes of ids, ranks, scores and answers: {'equal' if same else 'DIFFER'}")
    return 0 if same else 1


async def fill(service: Service, numbers: random.Random) -> None:
    """Bring in B, ten times as large as A."""
    await make_customer(service, "tenant-b")
    for start in range(0, 200, 50):
        batch = [document(numbers, n) for n in range(start, start + 50)]
        await service.copilot.ingest("tenant-b", batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--evict", action="store_true")
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.questions, given.seed, evict=given.evict)))
