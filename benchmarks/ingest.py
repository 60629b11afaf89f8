"""Chunks per second from an upload to searchable, beside the bare embedder's rate (row 24).

    python -m benchmarks.ingest [--files 96] [--sections 100] [--seed 1] [--passages FILE.jsonl]

The texts are made up, or passages of a file with a `text` in each line. Plain text, default
embedder, embedded PostgreSQL with fsync. The bars: 2,000 chunks a second, and at least half of what
the embedder does alone on the same cores. Meanwhile another tenant asks, one question after the
other; the p95 is printed beside the p95 of a quiet service.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from hashlib import sha256
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline, new_id
from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.orchestrator.rooms import Call
from compliance_copilot.rag import analysis
from compliance_copilot.rag.chunking import split
from compliance_copilot.rag.jobs import NewFile
from compliance_copilot.settings import load_settings
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_service, working

LEAST_RATE, LEAST_SHARE = 2_000, 0.5
UNLIMITED = {
    "max_queries_per_hour": None,
    "requests_per_minute": None,
    "max_concurrent_requests": None,
    "max_documents": None,
}
WORDS = [
    "access", "control", "policy", "review", "owner", "incident", "record", "retention",
    "backup", "encryption", "supplier", "risk", "training", "audit", "evidence", "approval",
    "asset", "network", "change", "vendor", "privacy", "monitoring", "continuity", "physical",
    "visitor", "password", "key", "log", "contract", "assessment", "remote", "device", "media",
    "disposal",
]  # fmt: skip


def text(rng: random.Random, sections: int) -> str:
    """Return a policy of this many sections, in words and word pairs about as rich as real ones."""
    common = [rng.choice(WORDS) for _ in range(200)]
    parts = []
    for number in range(sections):
        words = [
            rng.choice(common)
            if rng.random() < 0.85
            else f"{rng.choice(WORDS)}{rng.randrange(900)}"
            for _ in range(80)
        ]
        sentences = [" ".join(words[at : at + 16]).capitalize() for at in range(0, 80, 16)]
        parts.append(f"# Section {number}\n\n{'. '.join(sentences)}.")
    return "\n\n".join(parts)


async def stages(texts: list[str]) -> dict[str, float]:
    """Return chunks per second of each stage alone, in this process."""
    began = time.perf_counter()
    cuts = [(whole, split(whole)) for whole in texts]
    cut = time.perf_counter() - began
    chunks = [whole[span.start : span.end] for whole, spans in cuts for span in spans]
    began = time.perf_counter()
    found = [
        analysis.chunk_terms(chunks[at : at + 32], "en").ids for at in range(0, len(chunks), 32)
    ]
    analysed = time.perf_counter() - began
    each, different = sum(map(len, found)), len(np.unique(np.concatenate(found)))
    print(f"{each / len(chunks):.0f} terms a chunk, {different / len(chunks):.0f} of them new")
    embedder = WordllamaEmbedder()
    embedder.warm()
    deadline = Deadline.after(600)
    await embedder.embed(chunks[:256], deadline=deadline)
    began = time.perf_counter()
    for at in range(0, len(chunks), 256):
        await embedder.embed(chunks[at : at + 256], deadline=deadline)
    embedded = time.perf_counter() - began
    count = len(chunks)
    return {"cut": count / cut, "analyse": count / analysed, "embed": count / embedded}


async def ask(service: Any, stop: asyncio.Event) -> list[float]:
    """Ask until told to stop; return the milliseconds of each question."""
    times = []
    while not stop.is_set():
        began = time.perf_counter()
        await service.copilot.query("quiet", "How long are records kept?")
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return times


def passages(path: Path, files: int, sections: int) -> list[str]:
    """Return texts of this many passages each, from a file with a `text` in each line."""
    with path.open() as lines:
        found = [json.loads(line)["text"] for line in islice(lines, files * sections)]
    return ["\n\n".join(found[at : at + sections]) for at in range(0, len(found), sections)]


def p95(times: list[float]) -> float:
    return quantiles(times, n=20)[-1] if len(times) > 1 else float("nan")


async def quiet_p95(service: Any) -> float:
    stop = asyncio.Event()
    asking = asyncio.create_task(ask(service, stop))
    await asyncio.sleep(5)
    stop.set()
    return p95(await asking)


def written(folder: Path, texts: list[str]) -> list[NewFile]:
    files = []
    for number, whole in enumerate(texts):
        path = folder / f"{number}.txt"
        raw = whole.encode()
        path.write_bytes(raw)
        files.append(NewFile(path.name, path, len(raw), sha256(raw).digest()))
    return files


async def upload(service: Any, tenant: str, files: list[NewFile]) -> tuple[int, float]:
    """Send files as a job; return its chunks and the seconds until the last is searchable."""
    began = time.perf_counter()
    job_id = await service.filing.accept(tenant, files, call=Call(request_id=new_id()))
    while True:
        job = await service.filing.jobs.require(tenant, job_id)
        if job.state not in {"queued", "running"}:
            break
        await asyncio.sleep(0.05)
    assert job.state == "succeeded", job.state
    return job.progress.chunks_done, time.perf_counter() - began


async def measure(texts: list[str]) -> bool:
    alone = await stages(texts)
    for name, rate in alone.items():
        print(f"{name + ', alone':34} {rate:10,.0f} chunks/s")
    with tempfile.TemporaryDirectory() as place:
        files = written(Path(place), texts)
        settings = load_settings(
            data_dir=Path(place) / "data", load_examples=False, log_level="ERROR"
        )
        async with open_service(settings) as service, working(service, settings):
            for tenant in ("quiet", "first", "busy", "beside"):
                new = NewTenant(tenant, tenant, {}, UNLIMITED)
                await service.tenants.create(new, set_by="benchmark")
            records = NewDocument("Customer records are kept for seven years.", "records")
            await service.copilot.ingest("quiet", [records])
            await upload(service, "first", files[:2])  # the reading process is up from here on
            before = await quiet_p95(service)
            worked = time.process_time()
            chunks, seconds = await upload(service, "busy", files)
            worked = time.process_time() - worked
            stop = asyncio.Event()
            asking = asyncio.create_task(ask(service, stop))
            _, beside = await upload(service, "beside", files)
            stop.set()
            during = p95(await asking)
    rate, share = chunks / seconds, chunks / seconds / alone["embed"]
    print(f"{'upload to searchable':34} {rate:10,.0f} chunks/s ({chunks:,} chunks)")
    print(f"{'the same while another asks':34} {chunks / beside:10,.0f} chunks/s")
    print(f"{'share of the bare embedder':34} {share:10.0%}")
    print(f"{'CPU without the database':34} {worked / chunks * 1000:10.2f} ms a chunk")
    print(f"{'questions, p95, quiet':34} {before:10.1f} ms")
    print(f"{'questions, p95, while it runs':34} {during:10.1f} ms")
    return rate >= LEAST_RATE and share >= LEAST_SHARE


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=96)
    parser.add_argument("--sections", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--passages", type=Path)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    print(f"{given.files} files of {given.sections} sections, seed {given.seed}")
    made = (
        passages(given.passages, given.files, given.sections)
        if given.passages
        else [text(rng, given.sections) for _ in range(given.files)]
    )
    fine = asyncio.run(measure(made))
    print("verdict:", "ok" if fine else "MISSED")
    sys.exit(0 if fine else 1)
