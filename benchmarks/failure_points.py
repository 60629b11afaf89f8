"""A provider that fails at each possible point: what the reader gets, the attempts, the rows.

One question to OpenAI's SDK and one to Anthropic's for each point, against the stand-in over HTTP;
between two points a healthy question, so that no breaker opens.

python -m benchmarks.failure_points
"""

import asyncio
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import concluded, open_base
from compliance_copilot.core.vocabulary import NewDocument, QueryReply
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings, load_settings
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_service
from tests.standins.running import RunningProvider, running_provider

QUESTION = "How long are customer records kept?"
TEXT = "# Retention\n\nCustomer records are kept for seven years."
TIERS = {"gpt-4": "openai", "claude": "anthropic"}
TIMEOUT_SECONDS = 3.0
NONE: dict[str, object] = {}


@dataclass(frozen=True)
class Point:
    """Where a provider fails, and what has to come of it: each call's row, then the local one."""

    name: str
    mode: str
    options: dict[str, object]
    rows: tuple[str, ...]
    state: str = "settled"


POINTS = (
    Point("none", "normal", NONE, ("answered",)),
    Point("prose with [n]", "prose", NONE, ("answered",)),
    Point("connect", "refused", NONE, ("connect", "connect")),
    Point("no reply at all", "blackhole", NONE, ("timeout",), "interrupted"),
    Point("cut before the headers", "cut", {"after_bytes": 0}, ("interrupted",), "interrupted"),
    Point("headers, then nothing", "headers", NONE, ("timeout",), "interrupted"),
    Point("cut in mid-stream", "cut", {"after_bytes": 900}, ("interrupted",)),
    Point("slow drip", "drip", {"seconds": 0.4}, ("timeout",)),
    Point("bad JSON", "bad_json", NONE, ("bad_response",)),
    Point("no stream but HTML", "garbage", NONE, ("interrupted",), "interrupted"),
    Point("nothing verifiable", "unverifiable", NONE, ("unverifiable_answer",)),
    Point("no JSON schema", "no_schema", {"count": 1}, ("schema_refused", "answered")),
    Point("400", "400", NONE, ("bad_request",)),
    Point("401", "401", NONE, ("auth",)),
    Point("429, Retry-After 60", "429", {"seconds": 60}, ("rate_limited",)),
    Point("429 once", "429", {"seconds": 0.2, "count": 1}, ("rate_limited", "answered")),
    Point("500", "500", NONE, ("server_error", "server_error")),
    Point("500 once", "500", {"count": 1}, ("server_error", "answered")),
    Point("529, Retry-After 60", "529", {"seconds": 60}, ("server_error",)),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """What came of one question."""

    point: Point
    tier: str
    answered_by: str
    outcome: str
    reason: str
    rows: tuple[tuple[str, str, str], ...]
    calls: int
    seconds: float

    @property
    def expected(self) -> tuple[tuple[str, str, str], ...]:
        """Return the rows (provider, state, outcome) that the point has to leave."""
        provider = TIERS[self.tier]
        rows = [
            (provider, "settled" if outcome == "answered" else self.point.state, outcome)
            for outcome in self.point.rows
        ]
        if self.point.rows[-1] != "answered":
            rows.append(("local", "settled", "answered"))
        return tuple(rows)

    @property
    def holds(self) -> bool:
        """Tell whether all is as it has to be: rows, calls, the answer, the reason told."""
        hosted = 0 if self.point.mode == "refused" else len(self.point.rows)
        fell = self.point.rows[-1] != "answered"
        return (
            self.rows == self.expected
            and self.calls == hosted
            and self.outcome == "answered"
            and self.answered_by == ("extractive" if fell else self.tier)
            and self.reason == (self.point.rows[-1] if fell else "")
        )


async def lines(settings: Settings, provider: RunningProvider) -> list[Line]:
    """Ask at every point. The settings name a migrated database."""
    found: list[Line] = []
    for refused in (False, True):
        points = [p for p in POINTS if (p.mode == "refused") is refused]
        async with open_service(_hosted(settings, provider, refused=refused)) as service:
            for tier in TIERS:
                tenant = f"tenant-{tier}-{refused}".lower().replace(".", "-")
                config = {"model_tier": tier, "cache": False}
                unlimited = {"max_queries_per_hour": None, "requests_per_minute": None}
                new = NewTenant(tenant, tenant, config, unlimited)
                await service.tenants.create(new, set_by="drill")
                await service.copilot.ingest(tenant, [NewDocument(TEXT, "retention")])
                found += await _at(points, service, provider, tenant, tier)
    return found


async def _at(
    points: Sequence[Point], service: Service, provider: RunningProvider, tenant: str, tier: str
) -> list[Line]:
    found = []
    for point in points:
        if point.mode not in ("refused", "normal"):
            provider.fault("normal")
            await service.copilot.query(tenant, QUESTION)
            provider.fault(point.mode, **point.options)
        before, began = len(provider.calls()), time.monotonic()
        reply = await service.copilot.query(tenant, QUESTION)
        seconds = time.monotonic() - began
        assert isinstance(reply, QueryReply)
        provider.fault("normal")
        fallback = reply.metadata.fallback or {}
        rows = await _rows(service, tenant, str(reply.metadata.request_id))
        calls = len(provider.calls()) - before
        found.append(
            Line(point, tier, reply.metadata.model, reply.outcome.value,
                 str(fallback.get("reason", "")), rows, calls, seconds)
        )  # fmt: skip
    return found


async def _rows(service: Service, tenant: str, request_id: str) -> tuple[Any, ...]:
    events, _ = await service.copilot.usage.list(tenant)
    mine = [event for event in events if str(event.request_id) == request_id]
    return tuple(
        (e.provider, e.state, e.outcome) for e in sorted(mine, key=lambda event: event.attempt)
    )


def _hosted(settings: Settings, provider: RunningProvider, *, refused: bool) -> Settings:
    url = f"http://127.0.0.1:{_closed_port()}" if refused else provider.url
    values = {
        "OPENAI_API_KEY": "sk-standin",
        "OPENAI_BASE_URL": f"{url}/v1",
        "ANTHROPIC_API_KEY": "sk-ant-standin",
        "ANTHROPIC_BASE_URL": url,
        "QUERY_TIMEOUT_SECONDS": TIMEOUT_SECONDS,
    }
    checked = load_settings(**{name.lower(): value for name, value in values.items()})
    names = {name.lower() for name in values}
    return settings.model_copy(update={name: getattr(checked, name) for name in names})


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def run() -> int:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(running_provider(folder))
        base = await stack.enter_async_context(open_base())
        settings = load_settings(
            environment="development",
            database_url=base.serving,
            database_owner_url=base.owner,
            data_dir=folder / "data",
            load_examples=False,
        )
        found = await lines(settings, provider)
    print(
        f"{'point':<27}{'asked':<8}{'answer by':<12}{'reason told':<21}{'calls':>5}  rows, seconds"
    )
    for line in found:
        rows = " > ".join(f"{provider} {state} {outcome}" for provider, state, outcome in line.rows)
        print(f"{line.point.name:<27}{line.tier:<8}{line.answered_by:<12}{line.reason:<21}"
              f"{line.calls:>5}  {rows}, {line.seconds:.1f}")  # fmt: skip
    claims = {
        "every question got an answer": all(line.outcome == "answered" for line in found),
        "one row for each attempt, with its outcome": all(x.rows == x.expected for x in found),
        "no call beyond those, and the reply says why": all(line.holds for line in found),
        "all within the deadline + 1 s": all(x.seconds <= TIMEOUT_SECONDS + 1 for x in found),
    }
    return concluded("failure_points", 0, {"questions": len(found)}, claims)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(run()))
