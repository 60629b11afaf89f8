"""A follow-up leans on its own tenant's conversation, for as long as that is kept."""

import asyncpg
import pytest

from compliance_copilot.billing.sweeping import sweep_once
from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import NewDocument, QueryReply
from compliance_copilot.orchestrator import Call, Service
from compliance_copilot.rag.conversations import MOST_TURNS
from compliance_copilot.storage.database import Database
from tests.conftest import make_customer

FIRST = "How long are backups of customer data kept?"
NEXT = "And who tests them?"
POLICY = (
    "# Backups\n\nBackups of customer data are kept for 35 days.\n\n"
    "The service desk tests backups of customer data each quarter.\n\n"
    "# Phones\n\nThe facility team tests phones each week."
)


@pytest.fixture
async def acme(service: Service) -> Service:
    for tenant in ("acme", "beta"):
        await make_customer(service, tenant)
        await service.copilot.ingest(tenant, [NewDocument(POLICY, "backups")])
    return service


async def ask(
    service: Service, text: str, conversation: str | None = "talk", tenant: str = "acme"
) -> QueryReply:
    reply = await service.copilot.query(tenant, text, call=Call(conversation_id=conversation))
    assert isinstance(reply, QueryReply)
    return reply


async def test_a_follow_up_is_answered_as_the_question_that_was_meant(acme: Service) -> None:
    first = await ask(acme, FIRST)
    assert first.metadata.standalone_question is None
    reply = await ask(acme, NEXT)
    meant = "Who tests backups of customer data kept?"
    assert reply.metadata.standalone_question == meant
    assert "service desk" in reply.answer
    again = await ask(acme, meant, None)
    assert (again.metadata.cached, again.metadata.standalone_question) == (True, None)


async def test_no_conversation_of_another_tenant_or_name_is_leaned_on(acme: Service) -> None:
    await ask(acme, FIRST)
    for conversation, tenant in (("talk", "beta"), ("other", "acme"), (None, "acme")):
        reply = await ask(acme, NEXT, conversation, tenant)
        assert reply.metadata.standalone_question is None


async def test_a_forgotten_conversation_starts_anew(
    acme: Service, owner: asyncpg.Connection
) -> None:
    await ask(acme, FIRST)
    with pytest.raises(NotFound):
        await acme.copilot.conversations.forget("beta", "talk")
    await acme.copilot.conversations.forget("acme", "talk")
    assert await owner.fetchval("SELECT count(*) FROM conversation_turns") == 0
    assert (await ask(acme, NEXT)).metadata.standalone_question is None
    with pytest.raises(NotFound):
        await acme.copilot.conversations.forget("acme", "no such")


async def test_history_is_bounded_and_ends(
    acme: Service, owner: asyncpg.Connection, database: Database
) -> None:
    for _ in range(MOST_TURNS + 3):
        await ask(acme, FIRST)
    assert await owner.fetchval("SELECT count(*) FROM conversation_turns") == MOST_TURNS
    await owner.execute("UPDATE conversation_turns SET expires_at = now()")
    assert (await ask(acme, NEXT, "talk")).metadata.standalone_question is None
    await sweep_once(database)
    await sweep_once(database)  # the service's own sweep may have held the lock
    assert await owner.fetchval("SELECT count(*) FROM conversation_turns") == 1
