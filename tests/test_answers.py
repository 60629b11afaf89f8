"""Answers are kept with their citations, judged, and taken out when their time is over."""

import json
from hashlib import sha256
from uuid import UUID, uuid4

import asyncpg
import pytest

from compliance_copilot.billing.sweeping import sweep_once
from compliance_copilot.core.errors import Gone, NotFound
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import IdempotencyClaim, NewDocument, Replay
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.rag.answers import Feedback, Verdict
from compliance_copilot.storage.database import Database
from tests.conftest import make_customer

QUESTION = "How long are customer records kept?"
POLICY = "# Retention\n\n## 1. Records\n\nCustomer records are kept for seven years."
CLAIM = IdempotencyClaim("order-1", b"a" * 32)


@pytest.fixture
async def acme(service: Service) -> Service:
    await make_customer(service, "acme")
    await make_customer(service, "beta")
    await service.copilot.ingest("acme", [NewDocument(POLICY, "retention")])
    return service


async def ask(service: Service, **call: object) -> tuple[UUID, dict]:
    reply = await service.copilot.query("acme", QUESTION, call=Call(**call))
    assert not isinstance(reply, Replay)
    return reply.metadata.request_id, query_body(reply)


async def test_an_answer_is_read_again_as_it_was_given(acme: Service) -> None:
    request_id, body = await ask(acme)
    kept = (await acme.copilot.answers.require("acme", request_id)).body
    assert kept["answer"] == body["answer"]
    assert kept["citations"] == [dict(citation) for citation in body["citations"]]
    assert kept["content_hash"] == body["content_hash"]
    await acme.copilot.ingest("acme", [NewDocument(POLICY.replace("seven", "ten"), "retention")])
    assert (await acme.copilot.answers.require("acme", request_id)).body == kept


async def test_the_content_hash_can_be_computed_from_the_reply(acme: Service) -> None:
    kept = (await acme.copilot.answers.require("acme", (await ask(acme))[0])).body
    source, quote = (
        ("document_id", "version", "start", "end", "text"),
        ("marker", "source", "start", "end", "quote"),
    )
    said = [
        kept["answer"],
        kept["outcome"],
        [[entry[name] for name in source] for entry in kept["sources"]],
        [[entry[name] for name in quote] for entry in kept["citations"]],
    ]
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
    assert sha256(text.encode()).hexdigest() == kept["content_hash"]


async def test_nobody_reads_what_is_unknown_or_another_tenants(acme: Service) -> None:
    request_id, _ = await ask(acme)
    for tenant_id, wanted in (("beta", request_id), ("acme", uuid4())):
        with pytest.raises(NotFound):
            await acme.copilot.answers.require(tenant_id, wanted)
        with pytest.raises(NotFound):
            await acme.copilot.answers.judge(tenant_id, wanted, "k", Feedback(Verdict.WRONG))


async def test_after_its_retention_an_answer_is_gone_and_still_charged_once(
    acme: Service, owner: asyncpg.Connection, database: Database
) -> None:
    request_id, _ = await ask(acme, idempotency=CLAIM)
    await acme.copilot.answers.judge("acme", request_id, "k", Feedback(Verdict.WRONG, "old"))
    await owner.execute("UPDATE replies SET expires_at = now()")
    with pytest.raises(Gone):
        await acme.copilot.answers.require("acme", request_id)
    await sweep_once(database)
    await sweep_once(database)  # the service's own sweep may have held the lock
    with pytest.raises(Gone):
        await acme.copilot.answers.require("acme", request_id)
    with pytest.raises(Gone):
        await ask(acme, idempotency=CLAIM)
    assert await owner.fetchval("SELECT comment FROM feedback") is None
    summary = await acme.copilot.metrics("acme")
    assert (summary.total_queries, summary.wrong_answers) == (1, 1)


async def test_a_tenant_that_keeps_nothing_still_repeats_an_idempotency_key(
    acme: Service, owner: asyncpg.Connection
) -> None:
    await acme.config.update_tenant_config("acme", answer_retention_days=0)
    request_id, _ = await ask(acme)
    with pytest.raises(Gone):
        await acme.copilot.answers.require("acme", request_id)
    await ask(acme, idempotency=CLAIM)
    assert isinstance(
        await acme.copilot.query("acme", QUESTION, call=Call(idempotency=CLAIM)), Replay
    )
    days = await owner.fetchval("SELECT expires_at - created_at FROM replies")
    assert round(days.total_seconds()) == 86_400


async def test_a_shorter_retention_holds_for_what_is_kept_and_for_one_tenant_only(
    acme: Service, owner: asyncpg.Connection
) -> None:
    await ask(acme)
    await owner.execute(
        "INSERT INTO replies (tenant_id, request_id, operation, reply, expires_at) VALUES"
        " ('beta', gen_random_uuid(), 'query', '{}', now() + interval '90 days')"
    )
    await acme.config.update_tenant_config("acme", answer_retention_days=7)
    rows = await owner.fetch(
        "SELECT tenant_id, extract(day FROM expires_at - now())::int AS days FROM replies"
    )
    assert {row["tenant_id"]: row["days"] for row in rows} == {"acme": 6, "beta": 89}


async def test_a_kept_answer_names_the_documents_whose_erasure_takes_it(
    acme: Service, owner: asyncpg.Connection
) -> None:
    request_id, _ = await ask(acme)
    await acme.copilot.answers.judge("acme", request_id, "k", Feedback(Verdict.WRONG, "why"))
    for query in ("SELECT document_ids FROM replies", "SELECT document_ids FROM feedback"):
        assert await owner.fetchval(query) == ["retention"]


async def test_the_last_verdict_of_a_key_counts_and_each_key_has_one(acme: Service) -> None:
    request_id, _ = await ask(acme)
    answers = acme.copilot.answers
    await answers.judge("acme", request_id, "one", Feedback(Verdict.WRONG, "no"))
    await answers.judge("acme", request_id, "one", Feedback(Verdict.HELPFUL))
    await answers.judge("acme", request_id, "two", Feedback(Verdict.WRONG))
    summary = await acme.copilot.metrics("acme")
    assert (summary.helpful_answers, summary.wrong_answers) == (1, 1)
    other = await acme.copilot.metrics("beta")
    assert (other.helpful_answers, other.wrong_answers) == (0, 0)
