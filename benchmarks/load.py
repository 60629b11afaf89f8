"""Load by profile: many tenants, mixed work, latencies at the client, use of both servers.

    python -m benchmarks.load PROFILE [--seed N] [--seconds S] [--rate R] [--out FOLDER] ...

| profile | tenants x chunks | loop | what |
|---|---|---|---|
| easy | 3 x 60 | closed, 2 lines | 100 questions |
| medium | 10 x 200 | open | 1,000 requests, an hour's, in a minute |
| hard | 120 x 300, Zipf | open, 100/s | questions, ingest 3 %, metrics 7 %; p95 < 500 ms |
| soak | 20 x 200, Zipf | open, 50/s | half an hour of the same; memory must not grow |
| row23 | 100 x 1,000 | open, 300/s | questions only; p95 < 50 ms |
| most | 100 x 1,000 | closed, 16 lines | how many a second there are at most |

Authentication, admission, limits (high ones), retrieval, ledger, metrics, kept answers and the
query cache are on; with `--repeats 0` (all but `--cached` runs) hardly any question comes twice, so
the cache costs and gives nothing. The generator is another process on the same machine.
`--kept FOLDER` keeps the filled database for the next run. `--tenants 2000 --active 100` fills
2,000 tenants and asks a hundred of them.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import (
    ADMIN_KEY,
    ROOT,
    Base,
    Service,
    client_of,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
)
from benchmarks.lines import percentile
from benchmarks.load_chart import draw
from benchmarks.load_corpora import documents
from benchmarks.load_traffic import Plan, Seen
from benchmarks.processes import MIB, Use, used_by
from compliance_copilot.observing import SAMPLE_SECONDS

LIMITS = {
    "max_queries_per_hour": 10_000_000,
    "requests_per_minute": 1_000_000,
    "max_concurrent_requests": 10_000,
}
_FILLING_AT_ONCE = 4
_WARMING_SECONDS = 900.0
_WAITING = "copilot_hot_index_waiting"
_ROWS = """
    SELECT count(*) AS rows, count(*) FILTER (WHERE provider = 'cache') AS cached,
           count(*) FILTER (WHERE state = 'reserved') AS open
    FROM usage_events WHERE final AND operation IN ('query', 'ingest')
"""


@dataclass(frozen=True)
class Profile:
    """A shape of load, and what it has to show."""

    tenants: int
    chunks: int
    traffic: Mapping[str, Any]
    most_p95_ms: float
    aimed_p95_ms: float = 50.0
    least_a_second: float = 0.0


_MIXED = {"zipf": 1.1, "ingest_share": 0.03, "metrics_share": 0.07}
PROFILES = {
    "easy": Profile(3, 60, {"lines": 2, "requests": 100, "seconds": 60.0}, 500),
    "medium": Profile(
        10, 200, {"rate": 1000 / 60, "requests": 1000, "seconds": 90.0, "zipf": 0.5}, 500
    ),
    "hard": Profile(120, 300, {"rate": 100.0, "seconds": 60.0, **_MIXED}, 500),
    "soak": Profile(20, 200, {"rate": 50.0, "seconds": 1800.0, **_MIXED}, 500),
    "row23": Profile(100, 1000, {"rate": 310.0, "seconds": 30.0}, 50, least_a_second=300),
    "most": Profile(100, 1000, {"lines": 16, "seconds": 20.0}, 500),
}


@dataclass(frozen=True)
class Measured:
    """A run: what the client saw and what both servers used meanwhile."""

    seen: Seen
    service: tuple[Use, Use]
    database: tuple[Use, Use]
    rows: Mapping[str, int]

    def milliseconds_a_request(self, use: tuple[Use, Use]) -> float:
        """Return CPU milliseconds a request (warm-up included on both sides)."""
        answered = max(1, self.seen.billed)
        return 1000 * (use[1].cpu_seconds - use[0].cpu_seconds) / answered


async def fill(base: Base, service: Service, profile: Profile, seed: int) -> dict[str, str]:
    """Make the tenants that are not there yet; return the key of each."""
    notes = base.folder / "load-keys.json"
    keys: dict[str, str] = json.loads(notes.read_text()) if notes.exists() else {}
    gate = asyncio.Semaphore(_FILLING_AT_ONCE)

    async def one(tenant_id: str) -> None:
        async with gate:
            key = await make_tenant(service, tenant_id, limits=LIMITS, config={"cache": True})
            async with client_of(service, key, seconds=600) as client:
                body = {"documents": list(documents(seed, profile.chunks))}
                (await client.post("/ingest", json=body)).raise_for_status()
            keys[tenant_id] = key

    names = [f"load-{profile.chunks}-{seed}-{n}" for n in range(profile.tenants)]
    await asyncio.gather(*(one(name) for name in names if name not in keys))
    notes.write_text(json.dumps(keys))
    return {name: keys[name] for name in names}


async def warm(service: Service, keys: Mapping[str, str]) -> None:
    """Ask each tenant on every worker or so, until no worker loads or reads a corpus any more."""
    waiting, until = True, time.monotonic() + _WARMING_SECONDS
    while waiting and time.monotonic() < until:
        for _ in range(2 * service.workers):
            for key in keys.values():
                async with client_of(service, key) as client:
                    await client.post("/query", json={"query": "What is kept where?"})
        # A file that one worker has read is mapped anew by the others at the next question.
        waiting = await _loading(service)
        while await _loading(service) and time.monotonic() < until:
            pass


async def _loading(service: Service) -> bool:
    """Tell whether a worker loads or reads a corpus, by a gauge that was sampled since."""
    await asyncio.sleep(SAMPLE_SECONDS + 1)
    async with client_of(service, ADMIN_KEY) as operator:
        told = (await operator.get("/metrics")).raise_for_status().text
    lines = [line for line in told.splitlines() if line.startswith(_WAITING)]
    return any(float(line.rsplit(" ", 1)[1]) for line in lines)


async def measure(base: Base, service: Service, plan: Plan) -> Measured:
    """Run a plan in a process of its own; measure the servers around it."""
    assert service.process is not None
    before = await base.rows(_ROWS)
    served, kept = used_by(service.process.pid), used_by(base.pid)
    generator = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load_traffic", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))},
    )  # fmt: skip
    out, _ = await generator.communicate(json.dumps(asdict(plan)).encode())
    seen = Seen(**json.loads(out))
    both = (served, used_by(service.process.pid)), (kept, used_by(base.pid))
    after = await base.rows(_ROWS)
    rows = {name: after[0][name] - before[0][name] for name in ("rows", "cached", "open")}
    return Measured(seen, *both, rows)


def table(measured: Measured) -> dict[str, object]:
    """Return the figures of a run, named."""
    seen = measured.seen
    refused = {s: n for s, n in seen.statuses.items() if s.endswith((" 429", " 503"))}
    errors = {s: n for s, n in seen.statuses.items() if s not in refused and not s.endswith(" 200")}
    operations = {
        f"  {name}: p50 / p95 / p99 ms": _latencies(values)
        for name, values in sorted(seen.by_operation.items())
    }
    service, database = measured.service, measured.database
    return {
        "answered a second": round(len(seen.latencies) / seen.seconds, 1),
        "p50 / p95 / p99 ms": _latencies(seen.latencies),
        **(operations if len(operations) > 1 else {}),
        "statuses": seen.statuses,
        "errors by type": errors or "none",
        "refusals": refused or "none",
        "answers and ledger rows": f"{seen.billed} and {measured.rows['rows']}",
        "of them from the query cache": measured.rows["cached"],
        "CPU ms a request: service": round(measured.milliseconds_a_request(service), 2),
        "CPU ms a request: database": round(measured.milliseconds_a_request(database), 2),
        "CPU share of the generator": f"{seen.cpu_seconds / seen.seconds:.0%} of one core",
        "memory MiB: service": _grown(service),
        "memory MiB: database": _grown(database),
    }


def _latencies(values: list[float]) -> str:
    return " / ".join(f"{percentile(values, p):.1f}" for p in (50, 95, 99))


def _grown(use: tuple[Use, Use]) -> str:
    return " -> ".join(str(round(u.memory_bytes / MIB)) for u in use)


async def run(options: argparse.Namespace, seed: int) -> int:
    """Fill, warm, measure, tell."""
    profile = _chosen(options)
    async with (
        open_base(options.kept) as base,
        open_service(base, workers=options.workers, **dict(options.set)) as service,
    ):
        keys = await fill(base, service, profile, options.corpus_seed)
        active = dict(list(keys.items())[: options.active])
        await warm(service, active)
        plan = Plan(service.port, seed, active, profile.chunks, **profile.traffic)
        measured = await measure(base, service, replace(plan, repeats=20 * options.cached))
    facts = {"tenants, active, chunks each": (len(keys), len(active), profile.chunks)}
    facts |= table(measured)
    if options.out:
        _write(options.out, options.profile, seed, facts, measured)
    return concluded(f"load {options.profile}", seed, facts, _claims(profile, measured))


def _claims(profile: Profile, measured: Measured) -> dict[str, bool]:
    seen = measured.seen
    claims = {
        f"p95 < {profile.most_p95_ms:.0f} ms": percentile(seen.latencies, 95) < profile.most_p95_ms,
        "nothing but 200": all(status.endswith(" 200") for status in seen.statuses),
        "ledger rows = answers": measured.rows["rows"] == seen.billed,
    }
    if profile.least_a_second:
        enough = len(seen.latencies) / seen.seconds >= profile.least_a_second
        claims[f">= {profile.least_a_second:.0f} a second"] = enough
    return claims


def _chosen(options: argparse.Namespace) -> Profile:
    given = PROFILES[options.profile]
    traffic = dict(given.traffic)
    for name in ("seconds", "rate", "lines"):
        if (value := getattr(options, name)) is not None:
            traffic[name] = value
    return replace(
        given,
        tenants=options.tenants or given.tenants,
        chunks=options.chunks or given.chunks,
        traffic=traffic,
    )


def _write(
    folder: Path, name: str, seed: int, facts: Mapping[str, object], measured: Measured
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = {"profile": name, "seed": seed, "facts": facts, "latencies": measured.seen.by_operation}
    (folder / f"load-{name}.json").write_text(json.dumps(told, default=str, indent=1))
    draw(folder / f"load-{name}.svg", f"{name}, seed {seed}", measured.seen.by_operation)


def main() -> None:
    """Run one profile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("profile", choices=PROFILES)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--corpus-seed", type=int, default=23)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float, help="requests a second of the open loop")
    parser.add_argument("--lines", type=int, help="connections of the closed loop")
    parser.add_argument("--tenants", type=int)
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--active", type=int, help="so many tenants are asked")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cached", action="store_true", help="twenty questions a tenant, repeated")
    parser.add_argument("--kept", type=Path, help="keep the filled database here")
    parser.add_argument("--out", type=Path, help="write JSON and a chart here")
    parser.add_argument(
        "--set", action="append", default=[], type=lambda s: s.split("=", 1), metavar="NAME=VALUE"
    )
    options = parser.parse_args()
    seed = new_seed() if options.seed is None else options.seed
    raise SystemExit(asyncio.run(run(options, seed)))


if __name__ == "__main__":
    main()
