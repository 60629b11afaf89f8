"""The drills behind the isolation tests and their long forms in `benchmarks/`."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.vocabulary import NewDocument, QueryReply, SearchReply, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.storage.database import Database
from compliance_copilot.tenancy.context import TenantContext
from tests.conftest import make_customer


@dataclass
class Tally:
    """What a drill saw; `foreign` must stay empty."""

    done: Counter[str] = field(default_factory=Counter)
    foreign: list[str] = field(default_factory=list)

    @property
    def operations(self) -> int:
        return sum(self.done.values())

    def verdict(self) -> str:
        bound = 3 / max(1, self.operations)
        return (
            f"{self.operations} operations {dict(self.done)}: {len(self.foreign)} foreign"
            f" (95 % upper bound {bound:.1e})"
        )


def word_of(tenant_id: str) -> str:
    return f"canary{tenant_id.replace('-', '')}"


def document_of(tenant_id: str, number: int, edition: int) -> NewDocument:
    word = word_of(tenant_id)
    return NewDocument(
        f"# Rule {number} {word}\n\n## 1. Records {word}\n\nCustomer records of {word} number "
        f"{number} are kept for {edition + 1} years by the {word} archive.",
        f"rule-{number}",
        f"Rule {number} {word}",
        {"owner": word},
    )


async def make_tenants(service: Service, count: int, *, documents: int = 2) -> list[TenantId]:
    tenants = []
    for n in range(count):
        customer = await make_customer(service, f"t{n:04d}", config={"retrieval_mode": "hybrid"})
        new = [document_of(customer.tenant_id, d, 0) for d in range(documents)]
        await service.copilot.ingest(customer.tenant_id, new)
        tenants.append(customer.tenant_id)
    return tenants


async def random_operations(
    service: Service,
    tenants: Sequence[TenantId],
    *,
    operations: int,
    seed: int,
    at_once: int = 16,
    cancelled_share: float = 0.3,
) -> Tally:
    """Run random operations of random tenants, some cancelled at a random await."""
    random_numbers = random.Random(seed)  # noqa: S311 - a drill, repeatable by its seed
    tally = Tally()
    numbers = iter(range(operations))

    async def worker() -> None:
        for _ in numbers:
            tenant = random_numbers.choice(tenants)
            kind = random_numbers.choices(
                ("query", "search", "ingest", "list", "text", "delete"), (6, 6, 3, 3, 3, 1)
            )[0]
            task = asyncio.create_task(_operate(service, tenant, kind, random_numbers))
            if random_numbers.random() < cancelled_share:
                await _wait_anywhere(task, random_numbers)
                task.cancel()
            try:
                seen = await task
            except asyncio.CancelledError:
                tally.done["cancelled"] += 1
                continue
            except CopilotError as error:
                tally.done[error.code] += 1
                continue
            tally.done[kind] += 1
            tally.foreign += _foreign(tenant, kind, seen)
            if TenantContext.get_tenant() is not None:
                tally.foreign.append(f"{tenant}: the context was left bound")

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return tally


async def _wait_anywhere(task: asyncio.Task[Any], random_numbers: random.Random) -> None:
    """Wait for some turns of the loop or some milliseconds: early awaits are met, and late ones."""
    if random_numbers.random() < 0.5:
        for _ in range(random_numbers.randrange(12)):
            await asyncio.sleep(0)
    else:
        await asyncio.wait({task}, timeout=random_numbers.uniform(0, 0.03))


async def _operate(
    service: Service, tenant: TenantId, kind: str, random_numbers: random.Random
) -> Any:
    copilot, number = service.copilot, random_numbers.randrange(4)
    if kind == "query":
        return await copilot.query(tenant, "How long are customer records kept?")
    if kind == "search":
        return await copilot.search(tenant, f"rule {number} archive")
    if kind == "ingest":
        edition = random_numbers.randrange(5)
        return await copilot.ingest(tenant, [document_of(tenant, number, edition)])
    if kind == "list":
        return await copilot.documents.list(tenant)
    if kind == "text":
        return await copilot.documents.text(tenant, f"rule-{number}", 1)
    return await copilot.documents.delete(tenant, f"rule-{number}")


def _foreign(tenant: TenantId, kind: str, seen: Any) -> list[str]:
    """Return every trace of another tenant in what a tenant was shown."""
    if isinstance(seen, QueryReply | SearchReply):
        sources = seen.sources if isinstance(seen, QueryReply) else seen.results
        texts = [source.chunk.text + source.chunk.title for source in sources]
        texts += [seen.answer] if isinstance(seen, QueryReply) and sources else []
        if seen.metadata.tenant_id != tenant:
            texts.append("canaryOTHER")
    elif kind == "list":
        texts = [document.title for document in seen]
    elif kind == "text":
        texts = [seen]
    else:
        texts = []
    own = word_of(tenant)
    return [
        f"{tenant} {kind}: {text[:80]}"
        for text in texts
        if "canary" in text and "canary" in text.replace(own, "")
    ]


async def leftovers(database: Database, connections: int) -> list[str]:
    """Return what tenant or key each pooled connection still carries; all must be empty."""

    async def look() -> str:
        rows = await database.call_platform(
            "SELECT coalesce(current_setting('app.tenant_id', true), '')"
            " || coalesce(current_setting('app.key_hash', true), '') AS carried, pg_sleep(0.05)"
        )
        return str(rows[0]["carried"])

    return [c for c in await asyncio.gather(*(look() for _ in range(connections))) if c]


QUESTIONS = (
    "How long are customer records kept?",
    "Who keeps customer records?",
    "Which archive keeps rule 1?",
    "What is rule 3 about?",
    "How many years does the archive keep records of number 2?",
)


async def warm(service: Service, tenant: TenantId) -> None:
    """Bring a tenant's corpus into the hot index."""
    await service.copilot.search(tenant, "archive")
    await service.copilot._rooms.retriever.index.settled()


async def transcript(service: Service, tenant: TenantId, questions: Sequence[str]) -> list[Any]:
    """Return everything about a tenant's answers that another tenant must not move."""
    seen = []
    for question in questions:
        for mode in ("basic", "hybrid"):
            reply = await service.copilot.query(
                tenant, question, override_config={"retrieval_mode": mode, "top_k": 10}
            )
            seen.append(
                (
                    reply.answer,
                    reply.outcome,
                    [
                        (s.chunk.document_id, s.chunk.version, s.chunk.ordinal, s.score, s.dense,
                         s.sparse)
                        for s in reply.sources
                    ],
                    [(c.source, c.quote, c.start, c.end) for c in reply.citations],
                )
            )  # fmt: skip
    return seen
