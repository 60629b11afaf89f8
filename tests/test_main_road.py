"""The main road over HTTP: the real application on the real database."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import ADMIN_KEY, Customer

ALLOWED = "# Devices\n\n## 1. Phones\n\nEmployees may use personal phones for work e-mail."
FORBIDDEN = "# Devices\n\n## 1. Phones\n\nEmployees must not use personal phones for work e-mail."
QUESTION = {"query": "May employees use personal phones for work e-mail?"}
OPERATOR = {"X-API-Key": ADMIN_KEY}


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    application = build_application(
        partial(open_service, settings), lambda: Deployment("development", "The keys lie there.")
    )
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(application), base_url="http://service"
        ) as client,
    ):
        yield client


async def onboard(client: httpx.AsyncClient, tenant_id: str) -> Customer:
    body = {
        "tenant_id": tenant_id,
        "name": tenant_id,
        "config": {"retrieval_mode": "hybrid"},
        "limits": {"requests_per_minute": 10_000, "max_queries_per_hour": 10_000},
    }
    reply = await client.post("/tenants", json=body, headers=OPERATOR)
    assert reply.status_code == 201, reply.text
    assert reply.json()["api_key"]["scopes"] == ["query", "ingest", "usage:read", "tenant:admin"]
    return Customer(tenant_id, reply.json()["api_key"]["secret"])


async def ingest(client: httpx.AsyncClient, customer: Customer, text: str) -> dict:
    body = {"documents": [{"document_id": "devices", "text": text}]}
    reply = await client.post("/ingest", json=body, headers=customer.headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_two_tenants_with_opposite_policies_answer_differently(
    client: httpx.AsyncClient,
) -> None:
    acme, beta = await onboard(client, "acme"), await onboard(client, "beta")
    await ingest(client, acme, ALLOWED)
    await ingest(client, beta, FORBIDDEN)
    answers = [
        (await client.post("/query", json=QUESTION, headers=customer.headers)).json()
        for customer in (acme, beta)
    ]
    assert "may use" in answers[0]["answer"]
    assert "must not use" in answers[1]["answer"]
    for answer in answers:
        assert answer["outcome"] == "answered"
        for citation in answer["citations"]:
            source = answer["sources"][citation["source"]]
            path = f"/documents/{source['document_id']}/versions/{source['version']}/text"
            customer = acme if answer is answers[0] else beta
            text = (await client.get(path, headers=customer.headers)).text
            assert text[citation["start"] : citation["end"]] == citation["quote"]


async def test_the_ledger_has_one_row_for_each_operation(client: httpx.AsyncClient) -> None:
    acme = await onboard(client, "acme")
    await ingest(client, acme, ALLOWED)
    reply = await client.post("/query", json=QUESTION, headers=acme.headers)
    await client.post("/search", json=QUESTION, headers=acme.headers)
    events = (await client.get("/usage", headers=acme.headers)).json()["events"]
    assert [(e["operation"], e["state"], e["provider"]) for e in events] == [
        ("search", "settled", "local"),
        ("query", "settled", "local"),
        ("ingest", "settled", "local"),
    ]
    assert events[1]["request_id"] == reply.json()["metadata"]["request_id"]
    metrics = (await client.get("/metrics/acme", headers=acme.headers)).json()
    assert (metrics["total_queries"], metrics["successful_queries"]) == (1, 1)
    assert metrics["costs"]["total_requests"] == 3
    assert metrics["costs"]["success_rate"] == 1.0


async def test_a_tenant_without_documents_gets_no_evidence_and_no_error(
    client: httpx.AsyncClient,
) -> None:
    acme = await onboard(client, "acme")
    reply = await client.post("/query", json=QUESTION, headers=acme.headers)
    assert (reply.status_code, reply.json()["outcome"]) == (200, "no_evidence")
    found = await client.post("/search", json=QUESTION, headers=acme.headers)
    assert found.json()["results"] == []


async def test_an_idempotent_repeat_is_the_same_reply_and_no_second_charge(
    client: httpx.AsyncClient,
) -> None:
    acme = await onboard(client, "acme")
    await ingest(client, acme, ALLOWED)
    headers = {**acme.headers, "Idempotency-Key": "once"}
    first = await client.post("/query", json=QUESTION, headers=headers)
    again = await client.post("/query", json=QUESTION, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await client.post("/query", json={"query": "Another?"}, headers=headers)
    assert other.status_code == 422
    metrics = (await client.get("/metrics/acme", headers=acme.headers)).json()
    assert metrics["total_queries"] == 1


async def test_a_bad_document_stores_nothing_and_names_the_field(
    client: httpx.AsyncClient,
) -> None:
    acme = await onboard(client, "acme")
    good = {"document_id": "good", "text": ALLOWED}
    for bad, field in (
        ({"document_id": "bad", "text": " \n"}, "documents.1.text"),
        ({"document_id": "bad", "text": "a\x00b"}, "documents.1.text"),
        ({"document_id": "good", "text": "twice"}, "documents.1.document_id"),
        ({"document_id": "a/b", "text": "slash"}, "documents.1.document_id"),
    ):
        reply = await client.post("/ingest", json={"documents": [good, bad]}, headers=acme.headers)
        assert reply.status_code == 422, reply.text
        assert field in reply.text
    assert (await client.get("/documents", headers=acme.headers)).json()["documents"] == []
    assert (await client.get("/usage", headers=acme.headers)).json()["events"] == []


async def test_a_revoked_key_ends_and_another_key_goes_on(client: httpx.AsyncClient) -> None:
    acme = await onboard(client, "acme")
    made = await client.post(
        "/tenants/acme/keys", json={"name": "second", "scopes": ["query"]}, headers=acme.headers
    )
    second = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert (await client.post("/query", json=QUESTION, headers=second)).status_code == 200
    path = f"/tenants/acme/keys/{made.json()['key_id']}"
    assert (await client.delete(path, headers=acme.headers)).status_code in {200, 204}
    assert (await client.post("/query", json=QUESTION, headers=second)).status_code == 401
    assert (await client.post("/query", json=QUESTION, headers=acme.headers)).status_code == 200


async def test_exactly_as_many_are_admitted_as_allowed_by_two_services_at_once(
    settings: Settings, service: Service
) -> None:
    from compliance_copilot.core.errors import LimitReached
    from tests.conftest import make_customer

    customer = await make_customer(service, "acme", limits={"max_queries_per_hour": 7})
    async with open_service(settings) as other:
        replies = await asyncio.gather(
            *(
                (service if n % 2 else other).copilot.query(customer.tenant_id, "Who?")
                for n in range(30)
            ),
            return_exceptions=True,
        )
    refused = [reply for reply in replies if isinstance(reply, LimitReached)]
    assert len(replies) - len(refused) == 7
    assert len(refused) == 23


async def test_a_cursor_that_no_page_gave_is_refused_and_one_that_a_page_gave_continues(
    client: httpx.AsyncClient,
) -> None:
    acme = await onboard(client, "acme")
    for text in ("# One\n\nPhones are allowed.", "# Two\n\nPhones are not allowed."):
        await ingest(client, acme, text)
    first = (await client.get("/usage?limit=1", headers=acme.headers)).json()
    rest = {"cursor": first["next_cursor"]}
    second = (await client.get("/usage", params=rest, headers=acme.headers)).json()
    assert len(first["events"]) == len(second["events"]) == 1
    assert first["events"][0]["request_id"] > second["events"][0]["request_id"]
    nil = "00000000-0000-0000-0000-000000000000"
    for cursor in ("x", nil, f"{nil}.-1", f"{nil}.99999999999999999999"):
        reply = await client.get("/usage", params={"cursor": cursor}, headers=acme.headers)
        assert (reply.status_code, reply.json()["field"]) == (422, "cursor")
