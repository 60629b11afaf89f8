"""Acceptance row 2: every tenant's canaries, looked for wherever they may not be.

The real service over HTTP with its workers, a stand-in vendor that logs what it is sent, a
collector that takes the traces, all logs at DEBUG. Every sentence of a tenant's documents and
every question carries that tenant's word; a foreign one in a reply (made now or kept), any one
in a log line, a trace or the metrics, and two tenants' (or a tenant's name) in one
outgoing call are counted.

python benchmarks/isolation_canaries.py --calls 50000 --tenants 25 --seed 1
"""

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import (
    ADMIN_KEY,
    Service,
    client_of,
    make_tenant,
    open_base,
    open_service,
)
from tests.standins.collector import running_collector
from tests.standins.running import RunningProvider, running_provider

CANARY = re.compile(r"canary([0-9a-f]{8})")
TIERS = ("gpt-4", "claude", "extractive")
AT_ONCE = 12
WEIGHTS = {"query": 10, "search": 4, "ingest": 2, "list": 1, "text": 1, "usage": 1}


@dataclass
class Tenant:
    """A tenant of the drill: its id, its word, its key's client."""

    tenant_id: str
    word: str
    client: httpx.AsyncClient
    key: str
    edition: int = 0


@dataclass
class Findings:
    """What was looked through, and what was found."""

    looked: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    owners: dict[str, str] = field(default_factory=dict)
    """The tenant of each request, by the reply's id."""

    def found(self, where: str, what: str) -> None:
        """Count a fault and keep the first of them."""
        self.faults[where] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{where}: {what[:300]}")

    def only(self, where: str, word: str | None, text: str) -> None:
        """Count the canaries of a text that are not this tenant's."""
        self.looked[where] += 1
        for seen in set(CANARY.findall(text)):
            if word is None or f"canary{seen}" != word:
                self.found(where, text)

    @property
    def clean(self) -> bool:
        """Tell whether nothing was found, and everything was looked at."""
        return not self.faults and all(self.looked[w] for w in ("replies", "logs", "traces"))


def document_of(tenant: Tenant, number: int) -> dict[str, Any]:
    """Return a document in which every sentence carries the tenant's word."""
    word, years = tenant.word, tenant.edition % 9 + 1
    text = (
        f"# Rule {number} {word}\n\n## Records {word}\n\nCustomer records of {word} number {number}"
        f" are kept for {years} years by the {word} archive.\n\nBackups of {word} are tested."
    )
    meta = {"owner": word}
    return {
        "document_id": f"rule-{number}",
        "title": f"Rule {word}",
        "text": text,
        "metadata": meta,
    }


async def operate(tenant: Tenant, kind: str, numbers: random.Random) -> httpx.Response:
    """Make one call as a tenant."""
    client, number = tenant.client, numbers.randrange(4)
    question = f"How long are customer records of {tenant.word} number {number} kept?"
    if kind == "query":
        body = {"query": question, "model_tier": numbers.choice(TIERS)}
        return await client.post("/query", json=body)
    if kind == "search":
        return await client.post("/search", json={"query": question})
    if kind == "ingest":
        tenant.edition += 1
        return await client.post("/ingest", json={"documents": [document_of(tenant, number)]})
    path = {
        "list": "/documents", "usage": "/usage?limit=5",
        "text": f"/documents/rule-{number}/versions/1/text",
    }[kind]  # fmt: skip
    return await client.get(path)


async def make_tenants(service: Service, count: int, numbers: random.Random) -> list[Tenant]:
    """Make tenants whose ids stand in none of their words."""
    tenants = []
    for number in range(count):
        tenant_id = f"customer-{number:03d}-{numbers.randrange(16**6):06x}"
        key = await make_tenant(
            service, tenant_id, config={"retrieval_mode": "hybrid", "cache": True}
        )
        word = f"canary{numbers.randrange(16**8):08x}"
        tenant = Tenant(tenant_id, word, client_of(service, key), key)
        first = {"documents": [document_of(tenant, n) for n in range(4)]}
        (await tenant.client.post("/ingest", json=first)).raise_for_status()
        tenants.append(tenant)
    return tenants


async def call_all(
    tenants: list[Tenant], calls: int, numbers: random.Random, findings: Findings
) -> None:
    """Make the calls, some at once; look at every reply."""
    left = iter(range(calls))

    async def caller() -> None:
        for _ in left:
            tenant = numbers.choice(tenants)
            kind = numbers.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            reply = await operate(tenant, kind, numbers)
            findings.statuses[f"{kind} {reply.status_code}"] += 1
            findings.owners[reply.headers["X-Request-ID"]] = tenant.tenant_id
            findings.only("replies", tenant.word, reply.text)

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


def look_at_logs(findings: Findings, path: Path, tenants: list[Tenant]) -> None:
    """Read every line: JSON, no canary, no key, and no other tenant than the request's."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            findings.only("logs", None, line)
            if any(tenant.key in line for tenant in tenants) or ADMIN_KEY in line:
                findings.found("logs", "a key")
            if not line.startswith("{"):
                findings.found("logs", f"no JSON: {line}")
                continue
            told = json.loads(line)
            owner = findings.owners.get(told.get("request_id", ""))
            if owner and told.get("tenant_id") not in (None, owner):
                findings.found("logs", f"{owner} in a line of {told['tenant_id']}")


def look_at_calls(findings: Findings, vendor: RunningProvider, tenants: list[Tenant]) -> None:
    """Read every call to the vendor: one tenant's words, no tenant's name, no baggage."""
    names = [tenant.tenant_id for tenant in tenants]
    with vendor.log.open(encoding="utf-8") as calls:
        for call in calls:
            findings.looked["outgoing calls"] += 1
            if len(set(CANARY.findall(call))) > 1:
                findings.found("outgoing calls", call)
            if any(name in call for name in names) or '"baggage"' in call.lower():
                findings.found("outgoing calls", f"a tenant's name or baggage: {call}")


class Spans:
    """Looks at what a collector is sent; keeps the tenant of each trace and nothing else."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._tenants: dict[bytes, str] = {}
        self._requests: dict[str, str] = {}

    def look(self, request: Any) -> None:
        """Look at one export."""
        if b"canary" in request.SerializeToString():
            self._findings.found("traces", str(request)[:2000])
        for span in _spans(request):
            self._findings.looked["traces"] += 1
            told = {a.key: a.value.string_value for a in span.attributes}
            tenant = told.get("tenant_id")
            if tenant is None:
                continue
            if self._tenants.setdefault(span.trace_id, tenant) != tenant:
                self._findings.found("traces", f"two tenants: {span.name}")
            self._requests[told.get("request_id", "")] = tenant

    def compare(self) -> None:
        """Compare each request's tenant with the one who asked."""
        for request_id, tenant in self._requests.items():
            if self._findings.owners.get(request_id, tenant) != tenant:
                self._findings.found("traces", f"{request_id} is told as {tenant}'s")


def _spans(request: Any) -> Iterator[Any]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            yield from scope.spans


async def run(calls: int, tenants: int, seed: int, *, workers: int = 2) -> Findings:
    """Run the drill; nothing is kept afterwards."""
    findings, numbers = Findings(), random.Random(seed)
    spans = Spans(findings)
    async with open_base() as base:
        with (
            running_provider(base.folder) as vendor,
            running_collector(look=spans.look) as collector,
        ):
            settings = {
                "LOG_LEVEL": "DEBUG", "OTLP_ENDPOINT": collector.url,
                "OPENAI_API_KEY": "sk-drill", "OPENAI_BASE_URL": vendor.openai_url,
                "ANTHROPIC_API_KEY": "sk-ant-drill", "ANTHROPIC_BASE_URL": vendor.url,
                "OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug",
            }  # fmt: skip
            async with open_service(base, workers=workers, **settings) as service:
                made = await make_tenants(service, tenants, numbers)
                await call_all(made, calls, numbers, findings)
                async with client_of(service, ADMIN_KEY) as operator:
                    findings.only("metrics", None, (await operator.get("/metrics")).text)
                for tenant in made:
                    await tenant.client.aclose()
            look_at_calls(findings, vendor, made)
        spans.compare()
        look_at_logs(findings, base.folder / "service.log", made)
    return findings


def told(findings: Findings) -> str:
    """Return the table of the drill."""
    lines = [f"  {k:<14} {n}" for k, n in sorted(findings.statuses.items())]
    for where, number in findings.looked.items():
        bound = 3 / max(1, number)
        faults = findings.faults[where]
        lines.append(f"  {where:<14} {number:>9} looked at, {faults} found, bound {bound:.1e}")
    return "\n".join([*lines, *findings.examples])


def main() -> int:
    """Run and print; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--tenants", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    began = time.monotonic()
    findings = asyncio.run(run(given.calls, given.tenants, given.seed))
    seconds = time.monotonic() - began
    print(f"seed {given.seed}, {given.calls} calls, {given.tenants} tenants, {seconds:.0f} s")
    print(told(findings))
    print("0 foreign canaries" if findings.clean else "MISSED")
    return 0 if findings.clean else 1


if __name__ == "__main__":
    sys.exit(main())
