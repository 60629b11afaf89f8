"""Random work of many tenants at once, cancelled anywhere: nobody ever sees a foreign row."""

import asyncio
import logging

import pytest

from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.orchestrator import Service
from tests.conftest import make_customer
from tests.isolation import drills
from tests.isolation.conftest import QUESTIONS, World, policy_of


async def test_random_operations_with_cancellations_show_no_foreign_row(
    service: Service,
) -> None:
    tenants = await drills.make_tenants(service, 12)
    tally = await drills.random_operations(service, tenants, operations=1_500, seed=7)
    assert tally.foreign == []
    assert tally.done["cancelled"] > 200
    assert tally.done["query"] > 100
    customer = await make_customer(service, "presenting")
    for _ in range(8):
        assert await service.keys.identify(customer.key, fresh=True) is not None
    assert await drills.leftovers(service.tenants._database, 4) == []


async def test_the_drill_would_see_a_foreign_row(service: Service) -> None:
    first, second = await drills.make_tenants(service, 2)
    reply = await service.copilot.search(first, "archive")
    assert drills._foreign(first, "search", reply) == []
    assert drills._foreign(second, "search", reply) != []


async def test_a_tenant_is_answered_the_same_beside_one_ten_times_larger(
    service: Service,
) -> None:
    (alone,) = await drills.make_tenants(service, 1, documents=5)
    await drills.warm(service, alone)
    before = await drills.transcript(service, alone, drills.QUESTIONS)
    await make_customer(service, "large")
    large = [drills.document_of("large", n, n) for n in range(50)]
    large += [
        NewDocument(f"# Archive {n}\n\nEvery archive keeps customer records {n}.", f"more-{n}")
        for n in range(10)
    ]
    await service.copilot.ingest("large", large)
    await service.copilot.query("large", drills.QUESTIONS[0])
    assert await drills.transcript(service, alone, drills.QUESTIONS) == before
    assert await drills.transcript(service, "large", drills.QUESTIONS) != before


async def test_no_canary_of_one_tenant_reaches_another_or_a_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def ask(customer, other) -> str:
        texts = []
        for question in QUESTIONS:
            if f"canary{other.tenant_id}" in question:
                continue  # what a caller says himself may come back to him
            for path in ("/query", "/search"):
                body = {"query": question, "top_k": 20}
                reply = await world.client.post(path, json=body, headers=customer.headers)
                assert reply.status_code == 200
                texts.append(reply.text + str(reply.headers))
            for path in ("/documents", "/usage", "/whoami", f"/tenants/{customer.tenant_id}"):
                seen = await world.client.get(path, headers=customer.headers)
                texts.append(seen.text)
        bad = {"documents": [{"document_id": "x/y", "text": "canary?"}]}
        texts.append((await world.client.post("/ingest", json=bad, headers=customer.headers)).text)
        return "".join(texts)

    pairs = [(world.alpha, world.beta), (world.beta, world.alpha)] * 5
    for (customer, other), text in zip(
        pairs, await asyncio.gather(*(ask(*pair) for pair in pairs)), strict=True
    ):
        assert f"canary{customer.tenant_id}" in text
        assert f"canary{other.tenant_id}" not in text
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "canary" not in logged
    for customer in (world.alpha, world.beta):
        assert customer.key not in logged


async def test_equal_documents_of_two_tenants_stay_two_things(service: Service) -> None:
    for tenant_id in ("one", "two"):
        await make_customer(service, tenant_id)
        await service.copilot.ingest(tenant_id, [policy_of("alpha")])
    await service.copilot.documents.delete("one", "retention-alpha")
    found = await service.copilot.search("two", "How often are backups tested?")
    assert found.results
    assert (await service.copilot.search("one", "How often are backups tested?")).results == []
