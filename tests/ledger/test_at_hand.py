"""A request that admission settles leaves what one leaves that was admitted, then settled."""

from dataclasses import replace
from typing import Any

import asyncpg

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.clock import new_id
from compliance_copilot.core.vocabulary import (
    IdempotencyClaim,
    Operation,
    Permit,
    Replay,
    Reservation,
    TenantId,
    Usage,
)
from compliance_copilot.tenancy.admission import Ask, Ready
from tests.ledger.conftest import MODEL, PRICES, RESERVED, Books

USED = Settlement("answered", provider="openai", model=MODEL, usage=Usage(1000, 100))
REPLY = {"answer": "Yes.", "content_hash": "ab", "sources": [{"document_id": "policy"}]}
SUMS = "SELECT * FROM usage_summary('alpha', now() - interval '1 hour', now())"
ITS_OWN = ("request_id", "started_at", "settled_at", "lease_expires_at", "latency_ms",
           "request_latency_ms")  # fmt: skip


async def asked(
    books: Books, tenant: TenantId, corpus: int | None, claim: IdempotencyClaim | None = None
) -> Permit | Replay:
    """Ask with an answer made from this version of the corpus, or with none at hand."""
    wanted = Reservation("openai", MODEL, PRICES.version, RESERVED)
    ask = Ask(Operation.QUERY, lambda _: wanted, 30.0, idempotency=claim, request_id=new_id())
    draft = books.admission.drafted(tenant, ask)
    if corpus is not None and draft is not None:
        settlement = Meter(books.metering, draft.permit).prepared(USED, reply=REPLY)
        ask = replace(ask, ready=Ready(draft.config_version, corpus, settlement))
    return await books.admission.admit(tenant, ask)


async def left(owner: asyncpg.Connection, permit: Permit) -> list[dict[str, Any]]:
    """Return the rows of a request without what is its own."""
    event = await owner.fetchrow(
        "SELECT *, lease_expires_at - started_at AS lease, settled_at >= started_at AS in_order"
        " FROM usage_events WHERE request_id = $1",
        permit.request_id,
    )
    reply = await owner.fetchrow(
        "SELECT operation, reply::text, content_hash, document_ids,"
        " round(extract(epoch FROM expires_at - created_at)) AS kept_seconds"
        " FROM replies WHERE request_id = $1",
        permit.request_id,
    )
    shown = {name: value for name, value in dict(event).items() if name not in ITS_OWN}
    return [shown, dict(reply) if reply else {}]


async def test_both_ways_leave_the_same_rows_and_the_same_sums(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha", monthly_budget_usd=10.0, max_queries_per_hour=9)
    in_two_steps = await asked(books, tenant, None)
    assert isinstance(in_two_steps, Permit)
    assert not in_two_steps.settled
    await Meter(books.metering, in_two_steps).settle(USED, reply=REPLY)
    first_sums = await owner.fetchrow(SUMS)
    at_once = await asked(books, tenant, in_two_steps.corpus_version)
    assert isinstance(at_once, Permit)
    assert at_once.settled
    assert await left(owner, at_once) == await left(owner, in_two_steps)
    assert at_once.remaining == (in_two_steps.remaining or 0) - 1
    sums = await owner.fetchrow(SUMS)
    added = ("total_queries", "successful_queries", "total_requests", "input_tokens",
             "output_tokens", "cost_micro_usd")  # fmt: skip
    assert {n: sums[n] for n in added} == {n: 2 * first_sums[n] for n in added}
    assert sums["open_events"] == 0
    assert await books.differences(tenant) == []


async def test_an_answer_from_an_older_corpus_is_admitted_and_not_settled(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha", monthly_budget_usd=10.0)
    await asked(books, tenant, None)  # so that its configuration is known
    permit = await asked(books, tenant, 77)
    assert isinstance(permit, Permit)
    assert not permit.settled
    row, reply = await left(owner, permit)
    assert (row["state"], row["outcome"], row["reserved_micro_usd"]) == ("reserved", None, RESERVED)
    assert reply == {}
    assert await books.differences(tenant) == []
    await Meter(books.metering, permit).settle(USED, reply=REPLY)
    assert (await left(owner, permit))[0]["state"] == "settled"


async def test_a_claim_settled_at_once_is_replayed_and_charged_once(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha", monthly_budget_usd=10.0)
    await asked(books, tenant, None)
    claim = IdempotencyClaim("key-1", b"\x01" * 32)
    first = await asked(books, tenant, 0, claim)
    assert isinstance(first, Permit)
    assert first.settled
    again = await asked(books, tenant, 0, claim)
    assert isinstance(again, Replay)
    assert again.reply == REPLY
    settled = "SELECT count(*) FROM usage_events WHERE state = 'settled'"
    assert await owner.fetchval(settled) == 1
