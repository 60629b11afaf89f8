"""Side by side: what this service and a LiteLLM proxy add to the same stand-in provider.

    python -m benchmarks.compare_gateway [--litellm-python /path/to/venv/bin/python] [--requests N]

Ours does more for each request: authentication, limits, retrieval, checked quotes, the ledger and
the kept answer are on, and it reads the provider's answer as a stream; the proxy passes on one chat
completion in one piece, without a database. Both have the same number of workers, and sources of
the same size to answer from. Rate and latencies are those of what was answered (200), `added` is
over asking the provider directly at the same concurrency. Without `--litellm-python` ours alone.
Make the other environment with `python3 -m venv V && V/bin/pip install 'litellm[proxy]'`.
"""

import argparse
import asyncio
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.harness import client_of, concluded, free_port, make_tenant, open_base, open_service
from benchmarks.lines import Line, percentile, request_bytes
from benchmarks.load import LIMITS
from benchmarks.load_corpora import documents, facts
from tests.standins.running import running_provider

CONCURRENCIES = (1, 4, 16, 64)
CHUNKS, SOURCES = 100, 5
MODEL = "gpt-4o"
MASTER_KEY = "sk-for-this-comparison-only"
_CONFIG = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "{url}", api_key: "sk-standin"}}
general_settings: {{master_key: "{key}"}}
litellm_settings: {{num_retries: 0, telemetry: false}}
"""
_START_SECONDS = 120.0


@dataclass(frozen=True)
class Target:
    """Something that answers; `request` makes the n-th request."""

    name: str
    port: int
    request: Callable[[int], bytes]


@dataclass(frozen=True)
class Row:
    """What one target did at one concurrency; rate and latencies are of what was answered."""

    a_second: float
    p50_ms: float
    p99_ms: float
    statuses: Mapping[int, int]


async def measure(target: Target, concurrency: int, requests: int) -> Row:
    """Ask in a closed loop."""
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    numbers = iter(range(concurrency * 1_000_000, concurrency * 1_000_000 + requests))

    async def caller() -> None:
        line = Line(target.port)
        for number in numbers:
            began = time.perf_counter()
            status = await line.ask(target.request(number))
            statuses[status] += 1
            if status == 200:
                latencies.append((time.perf_counter() - began) * 1000)
        line.close()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    seconds = time.perf_counter() - began
    p50, p99 = percentile(latencies, 50), percentile(latencies, 99)
    return Row(len(latencies) / seconds, p50, p99, statuses)


def question(number: int) -> str:
    """Return a question that was not asked before."""
    told = facts(23, number % CHUNKS)
    return f"Case {number}: how long are {told['subject']} at {told['place']} kept?"


def completion(path: str, key: str) -> Callable[[int], bytes]:
    """Return what makes a chat completion of about the size that ours sends, and ours receives."""
    text = "".join(document["text"] for document in documents(23, CHUNKS))
    sections = [f"## {section}" for section in text.split("## ")[1:]]
    subjects = [facts(23, n)["subject"] for n in range(CHUNKS)]

    def request(number: int) -> bytes:
        right = number % CHUNKS
        chosen = sorted(  # it and others about the same subject, as a search finds them
            range(CHUNKS), key=lambda n: (n != right, subjects[n] != subjects[right])
        )[:SOURCES]
        sources = "\n".join(
            f"--- BEGIN SOURCE {n} here ---\n{sections[place]}\n--- END SOURCE {n} here ---"
            for n, place in enumerate(chosen, start=1)
        )
        asked = f"Question: {question(number)}\n\nSources:\n{sources}"
        messages = [{"role": "user", "content": asked}]
        return request_bytes(path, key, {"model": MODEL, "messages": messages})

    return request


@asynccontextmanager
async def litellm(python: Path, provider_url: str, workers: int) -> AsyncIterator[Target]:
    """Run a LiteLLM proxy while the context lasts. Raises RuntimeError when it does not start."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cc-litellm-") as folder:
        config, log = Path(folder) / "config.yaml", Path(folder) / "log"
        config.write_text(_CONFIG.format(model=MODEL, url=provider_url, key=MASTER_KEY))
        command = [str(python.parent / "litellm"), "--config", str(config), "--port", str(port),
                   "--host", "127.0.0.1", "--num_workers", str(workers)]  # fmt: skip
        environment = {"PATH": f"{python.parent}:{os.defpath}", "HOME": folder,
                       "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                command, env=environment, cwd=folder, stdout=output, stderr=output
            )
        try:
            await _alive(port, process, log)
            yield Target("LiteLLM proxy", port, completion("/v1/chat/completions", MASTER_KEY))
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


async def _alive(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False) as client:
        while process.poll() is None and time.monotonic() - began < _START_SECONDS:
            try:
                url = f"http://127.0.0.1:{port}/health/liveliness"
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.2)
    told = await asyncio.to_thread(log.read_text, errors="replace")
    raise RuntimeError(f"the proxy did not start:\n{told[-2000:]}")


async def run(options: argparse.Namespace) -> int:
    """Measure every target at every concurrency."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cc-compare-")))
        provider = stack.enter_context(running_provider(folder))
        base = await stack.enter_async_context(open_base())
        service = await stack.enter_async_context(
            open_service(base, workers=options.workers, GENERATION_PROVIDER="openai",
                         OPENAI_API_KEY="sk-standin", OPENAI_BASE_URL=provider.openai_url)
        )  # fmt: skip
        key = await make_tenant(service, "compared", limits=LIMITS)
        async with client_of(service, key) as client:
            body = {"documents": list(documents(23, CHUNKS))}
            (await client.post("/ingest", json=body)).raise_for_status()
        targets = [
            Target("direct", provider.port, completion("/v1/chat/completions", "sk-standin")),
            Target("ours", service.port,
                   lambda n: request_bytes("/query", key, {"query": question(n)})),
        ]  # fmt: skip
        if options.litellm_python:
            proxy = litellm(options.litellm_python, provider.openai_url, options.workers)
            targets.append(await stack.enter_async_context(proxy))
        rows: dict[tuple[str, int], Row] = {}
        for target in targets:
            await measure(target, 2, 20)
        for concurrency in CONCURRENCIES:
            for target in targets:
                row = await measure(target, concurrency, options.requests)
                rows[target.name, concurrency] = row
    return concluded("compare gateways", 23, *_told(rows))


def _told(rows: Mapping[tuple[str, int], Row]) -> tuple[dict[str, object], dict[str, bool]]:
    told: dict[str, object] = {}
    for (name, concurrency), row in rows.items():
        direct = rows["direct", concurrency]
        added = f"added p50 {row.p50_ms - direct.p50_ms:.1f}, p99 {row.p99_ms - direct.p99_ms:.1f}"
        told[f"{name}, {concurrency} at once"] = (
            f"{row.a_second:.0f}/s, p50 {row.p50_ms:.1f} ms, p99 {row.p99_ms:.1f} ms"
            + ("" if name == "direct" else f"; {added} ms")
            + ("" if set(row.statuses) == {200} else f"; statuses {dict(row.statuses)}")
        )
    return told, {"nothing but 200": all(set(row.statuses) == {200} for row in rows.values())}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--litellm-python", type=Path)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    raise SystemExit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
