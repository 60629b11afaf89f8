"""Row 19: each dependency turns into a black hole: every request ends by its deadline, typed.

A tunnel stands between the service and the dependency: it accepts connections and passes nothing.
Each case happens twice: before the requests come, and while they are under way.

python -m benchmarks.blackhole_drill [--requests 24] [--timeout 4] [--only database,anthropic]
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

from benchmarks.harness import (
    DATABASE,
    QUESTION,
    ROLE,
    ROOT,
    TEXT,
    Base,
    Service,
    client_of,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
    until,
)
from tests.standins.running import RunningProvider, running_provider
from tests.standins.tunnel import Tunnel, open_tunnel

OPEN = "SELECT count(*) FROM usage_events WHERE state = 'reserved'"
BUSY = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'compliance-copilot' AND state <> 'idle'
"""
ROUTES = ("/query", "/query stream", "/search", "/ingest")
TYPED = frozenset(
    {"deadline_exceeded", "store_unavailable", "retrieval_unavailable", "model_unavailable"}
)
MOMENTS = ("before", "meanwhile")
SPREAD_SECONDS = 0.6
BACK_SECONDS = 30.0
SETTLED_SECONDS = 60.0
TIERS = {"openai": "gpt-4", "anthropic": "claude", "database": "gpt-4"}
NAMES = ("openai", "anthropic", "embedder", "pinecone", "database")


@dataclass(frozen=True)
class Ended:
    """How one request ended: `typed` is false for what no caller could tell apart."""

    seconds: float
    word: str
    typed: bool


@dataclass(frozen=True)
class Place:
    """A service whose ways out lead through tunnels."""

    base: Base
    service: Service
    provider: RunningProvider
    tunnel: Tunnel
    key: str
    slowness: str


@dataclass(frozen=True)
class Case:
    """What became of the requests of one case, and of the service afterwards."""

    ended: list[Ended]
    back: float | None
    settled: float | None


async def run(
    requests: int, seconds: float, only: set[str], seed: int, moments: tuple[str, ...] = MOMENTS
) -> int:
    chance = random.Random(seed)
    facts: dict[str, object] = {}
    claims: dict[str, bool] = {}
    for name in NAMES:
        if only and name not in only:
            continue
        async with _open(name, seconds) as place:
            for when in moments:
                case = await _case(place, when, requests, chance)
                _note(f"{name} {when}", case, seconds, facts, claims)
    return concluded("blackhole_drill", seed, facts, claims)


def _note(
    name: str, case: Case, seconds: float, facts: dict[str, object], claims: dict[str, bool]
) -> None:
    slowest = max(e.seconds for e in case.ended)
    words = ", ".join(f"{n}x {w}" for w, n in sorted(Counter(e.word for e in case.ended).items()))
    facts[name] = f"{len(case.ended)} requests, slowest {slowest:.2f} s: {words}"
    facts[f"{name}: works again, all settled after, s"] = (case.back, case.settled)
    claims[f"{name}: all ended by deadline + 1 s"] = slowest <= seconds + 1.0
    claims[f"{name}: all typed, or an answer with its sources"] = all(e.typed for e in case.ended)
    claims[f"{name}: the service works again"] = case.back is not None
    claims[f"{name}: nothing stays reserved, no connection busy"] = case.settled is not None


@asynccontextmanager
async def _open(name: str, seconds: float) -> AsyncIterator[Place]:
    """Run a service with one dependency behind a tunnel."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        module = "vectors" if name == "pinecone" else "provider"
        provider = stack.enter_context(running_provider(folder, module=module))
        base = await stack.enter_async_context(open_base())
        target = _socket(base) if name == "database" else provider.port
        tunnel = await stack.enter_async_context(open_tunnel(target))
        environment = {
            "QUERY_TIMEOUT_SECONDS": str(seconds),
            "INGEST_TIMEOUT_SECONDS": str(seconds),
            **_settings(name, tunnel.port, provider),
        }
        if name == "pinecone":
            await asyncio.to_thread(_init_vectors, base, environment)
        service = await stack.enter_async_context(open_service(base, **environment))
        config = {"model_tier": TIERS.get(name, "extractive"), "cache": False}
        key = await make_tenant(service, "alpha", config=config)
        slowness = "delay" if name == "pinecone" else "drip"
        yield Place(base, service, provider, tunnel, key, slowness)


def _settings(name: str, port: int, provider: RunningProvider) -> Mapping[str, str]:
    url = f"http://127.0.0.1:{port}"
    openai = {"OPENAI_API_KEY": "sk-standin", "OPENAI_BASE_URL": f"{url}/v1"}
    match name:
        case "openai":
            return openai
        case "anthropic":
            return {"ANTHROPIC_API_KEY": "sk-ant-standin", "ANTHROPIC_BASE_URL": url}
        case "embedder":
            return openai | {"EMBEDDING_PROVIDER": "openai"}
        case "pinecone":
            return {
                "VECTOR_STORE": "pinecone",
                "PINECONE_API_KEY": "standin",
                "PINECONE_CONTROLLER_HOST": url,
                "PINECONE_INDEX_HOST": f"{url}/at/compliance-copilot",
            }
        case _:
            address = f"postgresql://{ROLE}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"
            return openai | {"DATABASE_URL": address, "OPENAI_BASE_URL": provider.openai_url}


def _init_vectors(base: Base, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "compliance_copilot.cli", "vectors", "init"]
    variables = Service(base, environment=environment).variables()
    subprocess.run(
        command, cwd=ROOT, env=variables, check=True, timeout=60, stdout=subprocess.DEVNULL
    )


def _socket(base: Base) -> str:
    """Return the path of the server's socket."""
    return f"{base.server.host}/.s.PGSQL.{base.server.port}"


async def _case(place: Place, when: str, requests: int, chance: random.Random) -> Case:
    waits = [chance.uniform(0.0, SPREAD_SECONDS) for _ in range(requests)]
    async with client_of(place.service, place.key) as client:
        # Everything is warm and no breaker open, as it is when an outage begins.
        if await until(lambda: _works(client, "200"), seconds=BACK_SECONDS) is None:
            raise RuntimeError("the service does not answer before the outage")
        if when == "meanwhile":  # slow, so that they are found at every step
            place.provider.fault(place.slowness, seconds=0.05)
        else:
            place.tunnel.blacken()
        asking = asyncio.gather(
            *(
                _ask(client, ROUTES[number % len(ROUTES)], after_seconds=wait)
                for number, wait in enumerate(waits)
            )
        )
        await asyncio.sleep(SPREAD_SECONDS / 2)
        place.tunnel.blacken()
        ended = list(await asking)
        place.provider.fault("normal")
        place.tunnel.clear()
        back = await until(lambda: _works(client), seconds=BACK_SECONDS)
        settled = await until(lambda: _quiet(place.base), seconds=SETTLED_SECONDS)
    return Case(ended, _rounded(back), _rounded(settled))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


async def _works(client: httpx.AsyncClient, word: str = "") -> bool:
    """Tell whether more at once than the pool has connections are all served."""
    ended = await asyncio.gather(*(_ask(client, ROUTES[n % len(ROUTES)]) for n in range(16)))
    return all(e.typed and e.word.startswith("200") and word in (e.word, "") for e in ended)


async def _quiet(base: Base) -> bool:
    return int(await base.value(OPEN)) == 0 and int(await base.value(BUSY)) == 0


async def _ask(client: httpx.AsyncClient, what: str, *, after_seconds: float = 0.0) -> Ended:
    await asyncio.sleep(after_seconds)
    route = what.partition(" ")[0]
    body: dict[str, object] = {**QUESTION, "stream": what.endswith("stream")}
    if route == "/search":
        body = dict(QUESTION)
    if route == "/ingest":
        body = {"documents": [{"text": f"{TEXT}\nNote {random.random()}."}]}
    began = time.monotonic()
    try:
        reply = await client.post(route, json=body)
    except httpx.TransportError as error:
        return Ended(time.monotonic() - began, type(error).__name__, typed=False)
    return _read(reply, time.monotonic() - began)


def _read(reply: httpx.Response, seconds: float) -> Ended:
    kind = reply.headers.get("content-type", "")
    if kind.startswith("text/event-stream"):
        return _read_stream(reply.text, seconds)
    if "json" not in kind:
        return Ended(seconds, f"{reply.status_code} {kind}", typed=False)
    body = reply.json()
    if reply.status_code != 200:
        code = str(body.get("code"))
        return Ended(seconds, f"{reply.status_code} {code}", typed=code in TYPED)
    fallback = (body.get("metadata") or {}).get("fallback")
    filled = bool(body.get("sources") or body.get("results") or body.get("documents"))
    return Ended(seconds, _answered(fallback), typed=filled)


def _read_stream(text: str, seconds: float) -> Ended:
    events = [event.partition("\ndata: ") for event in text.strip().split("\n\n")]
    name, last = events[-1][0], orjson.loads(events[-1][2])
    if name == "event: error":
        return Ended(seconds, f"stream error {last['code']}", typed=last["code"] in TYPED)
    filled = any(n == "event: sources" and orjson.loads(d)["sources"] for n, _, d in events)
    done = name == "event: done" and "metadata" in last
    return Ended(seconds, _answered(last["metadata"].get("fallback")), typed=filled and done)


def _answered(fallback: Mapping[str, object] | None) -> str:
    return "200" if fallback is None else f"200 by fallback ({fallback['reason']})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--timeout", type=float, default=4.0)
    parser.add_argument("--only", default="", help="names of cases, with commas")
    parser.add_argument("--seed", type=int, default=new_seed())
    parser.add_argument("--when", choices=MOMENTS, help="one moment only")
    options = parser.parse_args()
    names = {name for name in options.only.split(",") if name}
    moments = (options.when,) if options.when else MOMENTS
    raise SystemExit(
        asyncio.run(run(options.requests, options.timeout, names, options.seed, moments))
    )
