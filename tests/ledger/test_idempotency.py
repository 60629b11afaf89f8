"""An Idempotency-Key names one request for ever."""

import asyncio

import asyncpg
import pytest

from compliance_copilot.billing.metering import Settlement
from compliance_copilot.core.errors import Conflict, InvalidRequest
from compliance_copilot.core.vocabulary import IdempotencyClaim, Permit, Replay, TenantId, Usage
from compliance_copilot.tenancy import admission
from tests.ledger.conftest import MODEL, Books, expire_leases, gather_all

CLAIM = IdempotencyClaim("order-1", b"a" * 32)
OTHER_BODY = IdempotencyClaim("order-1", b"z" * 32)
USED = Settlement("answered", provider="openai", model=MODEL, usage=Usage(1000, 100))
REPLY = {"answer": "yes", "cost_usd": 0.1}


async def test_a_repeat_waits_for_the_first_and_gets_its_reply(
    books: Books, other_books: Books
) -> None:
    tenant = await books.tenant("alpha")
    meter = await books.meter(tenant, claim=CLAIM)
    repeats = [asyncio.create_task(b.admit(tenant, claim=CLAIM)) for b in (books, other_books) * 4]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in repeats)
    await meter.settle(USED, reply=REPLY)
    for replay in await asyncio.gather(*repeats):
        assert isinstance(replay, Replay)
        assert replay.reply == REPLY
        assert replay.original_request_id == meter._permit.request_id


async def test_no_repeat_is_let_in_at_the_moment_of_the_settlement(
    books: Books, other_books: Books
) -> None:
    tenant = await books.tenant("alpha")
    for number in range(40):
        claim = IdempotencyClaim(f"order-{number}", b"a" * 32)
        meter = await books.meter(tenant, claim=claim)
        both = (books, other_books) * 4
        repeats = [asyncio.create_task(b.admit(tenant, claim=claim)) for b in both]
        await asyncio.sleep(0.02)
        await meter.settle(USED, reply=REPLY)
        found = await asyncio.gather(*repeats)
        assert [getattr(replay, "reply", replay) for replay in found] == [REPLY] * 8


async def test_who_has_no_time_to_wait_is_told_to_come_again(books: Books) -> None:
    tenant = await books.tenant("alpha")
    await books.admit(tenant, claim=CLAIM)
    with pytest.raises(Conflict) as told:
        await books.admit(tenant, claim=CLAIM, seconds=0.2)
    assert told.value.facts["retry_after_seconds"] == 1


async def persistently(who: Books, tenant: TenantId) -> Permit | Replay:
    """Ask as a client does: one told that the first still runs comes again when it was told to."""
    while True:
        try:
            return await who.admit(tenant, claim=CLAIM)
        except Conflict as told:
            await asyncio.sleep(told.facts["retry_after_seconds"])  # type: ignore[arg-type]


@pytest.mark.parametrize("patience_seconds", [5.0, 0.0], ids=["waiting", "told to come again"])
async def test_of_many_at_once_one_is_charged(
    books: Books,
    other_books: Books,
    owner: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    patience_seconds: float,
) -> None:
    monkeypatch.setattr(admission, "_WAIT_SECONDS", patience_seconds)
    tenant = await books.tenant("alpha")

    async def ask(who: Books) -> object:
        permit = await persistently(who, tenant)
        if isinstance(permit, Permit):
            async with who.metering.request(permit) as meter:
                await meter.settle(USED, reply=REPLY)
            return REPLY
        return permit.reply

    results = await gather_all(*[ask(b) for b in (books, other_books) for _ in range(8)])
    assert results == [REPLY] * 16
    assert await owner.fetchval("SELECT count(*) FROM usage_events") == 1


async def test_another_body_under_the_same_key_is_refused(books: Books) -> None:
    tenant = await books.tenant("alpha")
    await (await books.meter(tenant, claim=CLAIM)).settle(USED, reply=REPLY)
    with pytest.raises(InvalidRequest):
        await books.admit(tenant, claim=OTHER_BODY)


async def test_a_refused_first_run_gives_its_key_back(books: Books) -> None:
    tenant = await books.tenant("alpha")
    permit = await books.admit(tenant, claim=CLAIM)
    assert isinstance(permit, Permit)
    with pytest.raises(InvalidRequest):
        async with books.metering.request(permit):
            raise InvalidRequest("no")
    assert isinstance(await books.admit(tenant, claim=OTHER_BODY), Permit)


async def test_a_crashed_first_run_is_taken_over_by_the_same_body_only(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    await books.admit(tenant, claim=CLAIM)
    await expire_leases(owner, tenant)
    with pytest.raises(InvalidRequest):
        await books.admit(tenant, claim=OTHER_BODY)
    assert isinstance(await books.admit(tenant, claim=CLAIM), Permit)


async def test_a_key_of_one_tenant_means_nothing_to_another(books: Books) -> None:
    alpha, beta = await books.tenant("alpha"), await books.tenant("beta")
    await (await books.meter(alpha, claim=CLAIM)).settle(USED, reply=REPLY)
    assert isinstance(await books.admit(beta, claim=CLAIM), Permit)
