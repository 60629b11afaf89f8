"""Row 25: from nothing to the first answer, and the first question of a tenant that was idle.

    python -m benchmarks.cold_start [--runs 5] [--chunks 1000]

A cold start is what `scripts/run_api.sh` does on an installed tree once its check of the
installation is over: `compliance-copilot serve` on a DATA_DIR, embedded PostgreSQL included.
`first` is a fresh folder (the database is made, migrated, the examples taken in), `again` one that
was there. An idle tenant is asked right after a start: nothing of it is in memory.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.harness import (
    ADMIN_KEY,
    ROOT,
    client_of,
    concluded,
    free_port,
    make_tenant,
    open_base,
    open_service,
)
from benchmarks.load import LIMITS
from benchmarks.load_corpora import documents

_QUESTION = {"query": "How is customer data at rest encrypted?"}
_LONGEST_SECONDS = 120.0


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[float]:
    """Serve from a folder; give the seconds until the first answer came back."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "DATA_DIR": str(folder / "data"),
        "API_PORT": str(port), "ADMIN_API_KEY": ADMIN_KEY, "LOG_LEVEL": "WARNING",
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
    }  # fmt: skip
    command = [sys.executable, "-m", "compliance_copilot.cli", "serve"]
    began = time.perf_counter()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
            command, cwd=ROOT, env=environment, stdout=log, stderr=log
        )
    try:
        await _answered(folder, port, process)
        yield time.perf_counter() - began
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


async def _answered(folder: Path, port: int, process: "subprocess.Popen[bytes]") -> None:
    """Ask as an example tenant until an answer comes. Raises RuntimeError when none does."""
    began = time.monotonic()
    key = folder / "data" / "keys" / "acme_corp.key"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        while process.poll() is None and time.monotonic() - began < _LONGEST_SECONDS:
            await asyncio.sleep(0.01)
            try:
                if (await client.get("/health")).status_code != 200 or not key.exists():
                    continue
                headers = {"Authorization": f"Bearer {key.read_text().strip()}"}
                reply = await client.post("/query", json=_QUESTION, headers=headers)
            except httpx.TransportError:
                continue
            if reply.status_code == 200 and "answer" in reply.json():
                return
    raise RuntimeError((folder / "log").read_text(errors="replace")[-2000:])


async def starts(runs: int) -> tuple[list[float], list[float]]:
    """Return the seconds of starts in fresh folders, and of starts that find one."""
    first, again = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="cc-cold-") as name:
            os.chmod(name, 0o755)  # noqa: S103 - PostgreSQL runs as another user
            async with started(Path(name)) as seconds:
                first.append(seconds)
            async with started(Path(name)) as seconds:
                again.append(seconds)
    return first, again


async def idle(runs: int, chunks: int) -> list[float]:
    """Return the milliseconds of the first questions of tenants right after a start."""
    took = []
    async with open_base() as base:
        async with open_service(base) as service:
            keys = [await make_tenant(service, f"idle{n}", limits=LIMITS) for n in range(runs)]
            for key in keys:
                async with client_of(service, key) as client:
                    body = {"documents": list(documents(23, chunks))}
                    (await client.post("/ingest", json=body)).raise_for_status()
        async with open_service(base) as service:
            for key in keys:
                async with client_of(service, key) as client:
                    await client.get("/health")  # the connection is not what is measured
                    began = time.perf_counter()
                    (await client.post("/query", json=_QUESTION)).raise_for_status()
                    took.append((time.perf_counter() - began) * 1000)
    return took


async def run(runs: int, chunks: int) -> int:
    """Measure both, print medians and all figures."""
    first, again = await starts(runs)
    took = await idle(max(runs, 2), chunks)
    facts = {
        "start in a fresh folder, s": _told(first),
        "start again, s": _told(again),
        f"first question of an idle tenant, {chunks} chunks, ms": _told(took),
    }
    claims = {
        "fresh start to first answer < 5 s": statistics.median(first) < 5,
        "idle tenant < 100 ms": statistics.median(took) < 100,
    }
    return concluded("cold start", 23, facts, claims)


def _told(values: list[float]) -> str:
    return f"median {statistics.median(values):.2f} of {[round(value, 2) for value in values]}"


def main() -> None:
    """Run the starts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=1000)
    options = parser.parse_args()
    raise SystemExit(asyncio.run(run(options.runs, options.chunks)))


if __name__ == "__main__":
    main()
