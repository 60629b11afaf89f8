"""A settlement that the database cannot take is on disk before the answer leaves."""

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import pytest

from compliance_copilot.billing.journal import Journal
from compliance_copilot.billing.metering import Meter, Metering, Settlement
from compliance_copilot.core.errors import Gone, SetupError, StoreUnavailable
from compliance_copilot.core.vocabulary import IdempotencyClaim, Replay, Reservation, Usage
from compliance_copilot.storage.database import Database
from compliance_copilot.storage.durability import check_durability, weak_settings
from tests.ledger.conftest import MODEL, PRICES, RESERVED, Books, expire_leases

USED = Settlement(
    "answered", provider="openai", model=MODEL, response_id="resp-1", usage=Usage(1000, 100)
)
COST = PRICES.cost(MODEL, USED.usage).micro_usd


async def rows_of(owner: asyncpg.Connection) -> list[tuple[object, ...]]:
    rows = await owner.fetch(
        "SELECT state, cost_micro_usd, provider_response_id, attempt FROM usage_events"
        " ORDER BY request_id, attempt"
    )
    return [tuple(row) for row in rows]


async def test_a_settlement_goes_to_the_journal_and_from_there_into_the_ledger_once(
    books: Books, away: Metering, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    claim = IdempotencyClaim("key", b"b" * 32)
    permit = (await books.meter(tenant, claim=claim))._permit
    await Meter(away, permit).settle(USED, reply={"answer": "yes"})
    assert (await rows_of(owner))[0][0] == "reserved"
    assert books.journal.pending == 1
    with pytest.raises(StoreUnavailable):
        await away.replay()
    assert books.journal.pending == 1
    assert [await books.metering.replay(), await books.metering.replay()] == [1, 0]
    assert await rows_of(owner) == [("settled", COST, "resp-1", 1)]
    again = await books.admit(tenant, claim=claim)
    assert isinstance(again, Replay)
    assert again.reply == {"answer": "yes"}
    assert await books.differences(tenant) == []


async def test_a_journal_of_a_killed_process_is_settled_at_the_next_start(
    books: Books, away: Metering, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    tenant = await books.tenant("alpha")
    permits = [(await books.meter(tenant))._permit for _ in range(2)]
    for permit in permits:
        await Meter(away, permit).settle(USED)
    folder = tmp_path / "journal"
    assert await books.metering.recover() == 0, "its process lives: nobody takes it away"
    left = next(p for p in folder.iterdir() if p.stat().st_size)
    (folder / "4242-dead.jsonl").write_bytes(left.read_bytes() + b'{"tenant_id": "alp')
    await expire_leases(owner, tenant)
    await books.database.call(tenant, "SELECT end_leases($1)")
    assert {row[0] for row in await rows_of(owner)} == {"interrupted"}
    assert await books.metering.recover() == 3
    assert await rows_of(owner) == [("settled", COST, "resp-1", 1)] * 2
    assert not (folder / "4242-dead.jsonl").exists()
    assert await books.metering.replay() == 2, "the living process knows no better: no harm"
    assert await rows_of(owner) == [("settled", COST, "resp-1", 1)] * 2
    assert await books.differences(tenant) == []


async def test_local_work_whose_lease_ended_is_settled_by_a_late_proof_too(
    books: Books, away: Metering, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    meter = await books.meter(tenant, provider="local")
    await Meter(away, meter._permit).settle(Settlement("answered", provider="local"))
    await expire_leases(owner, tenant)
    await books.database.call(tenant, "SELECT end_leases($1)")
    assert (await rows_of(owner))[0][0] == "released"
    await books.metering.replay()
    assert (await rows_of(owner))[0][0] == "settled"
    assert await books.differences(tenant) == []


async def test_what_a_failed_attempt_used_survives_when_the_next_cannot_be_reserved(
    books: Books, away: Metering, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    meter = Meter(away, (await books.meter(tenant))._permit)
    with pytest.raises(StoreUnavailable):
        await meter.next_attempt(USED, Reservation("openai", MODEL, PRICES.version, RESERVED))
    await books.metering.replay()
    assert await rows_of(owner) == [("settled", COST, "resp-1", 1)]


async def test_a_caller_who_is_cancelled_while_it_settles_loses_nothing(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    meter = await books.meter(tenant)
    async with owner.transaction():
        await owner.execute("SELECT FROM usage_events FOR UPDATE")
        caller = asyncio.create_task(meter.settle(USED))
        await asyncio.sleep(0.05)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
    await books.metering.drain()
    assert await rows_of(owner) == [("settled", COST, "resp-1", 1)]


async def test_a_journal_is_read_by_its_owner_only_and_leaves_when_it_is_empty(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "journal")
    await journal.append("alpha", {"request_id": "x"})
    file = next((tmp_path / "journal").iterdir())
    assert journal.nbytes == file.stat().st_size > 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    seen = []

    async def settle(tenant_id: str, settlement: object) -> None:
        seen.append((tenant_id, settlement))

    assert await journal.replay(settle) == 1
    assert journal.nbytes == file.stat().st_size == 0
    assert seen == [("alpha", {"request_id": "x"})]
    journal.close()
    assert os.listdir(tmp_path / "journal") == []


async def test_a_server_that_forgets_commits_is_refused_where_it_matters(
    database: Database, owner: asyncpg.Connection
) -> None:
    name = await owner.fetchval("SELECT current_database()")
    weak = await weak_settings(database)
    await owner.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = on')
    if weak:
        with pytest.raises(SetupError, match="loses ledger rows") as refused:
            await check_durability(database, required=True)
        assert "\n" not in refused.value.detail
    await check_durability(database, required=False)


async def test_an_erased_reply_is_gone_and_not_charged_again(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    claim = IdempotencyClaim("key", b"b" * 32)
    await (await books.meter(tenant, claim=claim)).settle(USED, reply={"answer": "yes"})
    await owner.execute("DELETE FROM replies")
    with pytest.raises(Gone):
        await books.admit(tenant, claim=claim)
    assert len(await rows_of(owner)) == 1


async def test_a_replay_that_waits_for_the_database_holds_no_settlement_up(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    await journal.append("alpha", {"request_id": "x"})
    waiting, seen = asyncio.Event(), []

    async def settle(_tenant_id: str, settlement: Mapping[str, object]) -> None:
        await waiting.wait()
        seen.append(settlement["request_id"])

    replaying = asyncio.create_task(journal.replay(settle))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(15):
        await journal.append("alpha", {"request_id": "y"})
    waiting.set()
    assert await replaying == 1
    assert journal.pending == 2, "what came meanwhile is not forgotten"
    assert await journal.replay(settle) == 2
    assert (seen, journal.pending) == (["x", "x", "y"], 0)
    journal.close()
