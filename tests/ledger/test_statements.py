"""An invoice is drawn from the ledger and adds up to it, to the micro-USD."""

import csv
import io
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from compliance_copilot.billing.ledger import UsageLedger
from compliance_copilot.billing.metering import Settlement
from compliance_copilot.billing.reconciliation import load_provider_export, reconciled
from compliance_copilot.billing.statements import Statements, csv_of, focus_of, month_of
from compliance_copilot.core.errors import InvalidRequest, NotFound
from compliance_copilot.core.vocabulary import ModelTier, TenantId, Usage
from tests.ledger.conftest import MODEL, PRICES, Books, expire_leases

RAW = """
    SELECT count(*) FILTER (WHERE queries = 1), count(*) FILTER (WHERE answered_queries = 1),
           sum(cost_micro_usd), sum(input_tokens), count(*) FILTER (WHERE state = 'reserved')
    FROM usage_measures WHERE started_at >= $1 AND started_at < $2
"""
FILL = """
    INSERT INTO usage_events (tenant_id, request_id, attempt, operation, state, final, provider,
        model, input_tokens, output_tokens, cost_micro_usd, price_version, outcome,
        request_latency_ms, started_at, lease_expires_at)
    SELECT $1, gen_random_uuid(), 1, (ARRAY['query', 'search', 'ingest'])[1 + i % 3],
        (ARRAY['settled', 'settled', 'released', 'interrupted', 'reserved'])[1 + i % 5], true,
        'openai', 'm' || i % 4, i % 977, i % 89, i % 1009, 'v' || i % 2, 'answered',
        (i % 313) / 7.0, $2::timestamptz + i * interval '37 seconds', now() + interval '1 hour'
    FROM generate_series(1, 3000) i
"""
START = datetime(2026, 10, 30, 22, 13, 5, tzinfo=UTC)


def used(number: int, **values: object) -> Settlement:
    return Settlement(
        "answered", provider="openai", model=MODEL, response_id=f"resp-{number}",
        usage=Usage(1000 + number, 10), **values,
    )  # fmt: skip


async def test_the_sums_of_any_window_are_those_of_the_rows(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    await owner.execute(FILL, tenant, START)
    await books.database.call(tenant, "SELECT rebuild_sums($1)")
    assert await books.differences(tenant) == []
    choice = random.Random(3)  # noqa: S311 - not a secret
    spans = [(choice.uniform(-1, 31), choice.uniform(0.0, 30)) for _ in range(40)]
    for begin, hours in [(0.0, 0.1), (1.78194, 1.0), (0.0, 60.0), *spans]:
        since = START + timedelta(hours=begin)
        until = since + timedelta(hours=hours)
        got = (
            await books.database.call(
                tenant, "SELECT * FROM usage_summary($1, $2, $3)", since, until
            )
        )[0]
        queries, answered, cost, tokens, running = await owner.fetchrow(RAW, since, until)
        assert (got["total_queries"], got["successful_queries"]) == (queries, answered)
        assert (got["cost_micro_usd"], got["input_tokens"]) == (cost or 0, tokens or 0)
        assert got["open_events"] == running


async def test_the_lines_of_every_month_add_up_to_the_ledger(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    await owner.execute(FILL, tenant, START)
    statements = Statements(books.database)
    months = [await statements.draw(tenant, month) for month in ("2026-10", "2026-11")]
    assert sum(m.total_micro_usd for m in months) == await owner.fetchval(
        "SELECT sum(cost_micro_usd) FROM usage_events"
    )
    for month in months:
        assert month.total_micro_usd == sum(line.cost_micro_usd for line in month.lines)
        assert not month.complete
        table = list(csv.DictReader(io.StringIO(csv_of(month))))
        assert int(table[-1]["cost_micro_usd"]) == month.total_micro_usd
        assert "not settled yet" in table[-1]["model"]
        focus = list(csv.DictReader(io.StringIO(focus_of(month))))
        micro = sum(round(float(row["BilledCost"]) * 1_000_000) for row in focus)
        assert micro == month.total_micro_usd


async def test_a_month_closes_when_it_is_over_priced_and_settled(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    meter = await books.meter(tenant)
    await meter.settle(used(1))
    await owner.execute("UPDATE usage_events SET started_at = '2026-09-10Z'")
    statements = Statements(books.database)
    closed = await statements.draw(tenant, "2026-09")
    assert closed.complete
    assert closed.reasons == ()
    await owner.execute("UPDATE usage_events SET unpriced = true")
    told = await statements.draw(tenant, "2026-09")
    assert (told.complete, told.unpriced_events) == (False, 1)
    assert told.reasons == ("1 events have no price and count as 0",)


async def test_an_unknown_model_is_unpriced_and_counted_and_alarms(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    tenant = await books.tenant("alpha")
    meter = await books.meter(tenant)
    await meter.settle(
        Settlement("answered", provider="openai", model="made-up", usage=Usage(9, 9))
    )
    assert any(r.levelname == "ERROR" and "made-up" in r.getMessage() for r in caplog.records)
    assert (await UsageLedger(books.database).summary(tenant, 1)).unpriced_events == 1


async def test_a_correction_is_a_further_row_of_today(
    books: Books, owner: asyncpg.Connection
) -> None:
    tenant = await books.tenant("alpha")
    meter = await books.meter(tenant)
    await meter.settle(used(1))
    before = await owner.fetchrow("SELECT * FROM usage_events")
    ledger = UsageLedger(books.database)
    request_id = meter._permit.request_id
    assert await ledger.append_correction(tenant, request_id, -500, reason="credit") == 2
    assert await owner.fetchrow("SELECT * FROM usage_events WHERE attempt = 1") == before
    summary = await ledger.summary(tenant, 1)
    assert summary.cost_micro_usd == before["cost_micro_usd"] - 500
    assert (summary.total_queries, summary.total_requests) == (1, 1)
    assert await books.differences(tenant) == []
    with pytest.raises(NotFound):
        await ledger.append_correction(TenantId("beta"), request_id, 1, reason="theirs")


async def test_reconciliation_lists_every_difference(
    books: Books, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    tenant = await books.tenant("alpha")
    for number in range(4):
        await (await books.meter(tenant)).settle(used(number))
    await books.meter(tenant)
    await expire_leases(owner, tenant)
    await books.database.call(tenant, "SELECT end_leases($1)")
    export = tmp_path / "export.csv"
    lines = ["id,prompt_tokens,completion_tokens", "resp-0,1000,10", "resp-1,1001,10",
             "resp-2,999,10", "resp-9,5,5", "resp-0,1000,10"]  # fmt: skip
    export.write_text("\n".join(lines))
    events, _ = await UsageLedger(books.database).list(tenant)
    result = reconciled(events, load_provider_export(export))
    assert (result.agreeing, result.unknown) == (2, 1)
    assert sorted((d.kind, d.response_id) for d in result.differences) == [
        ("not_at_provider", "resp-3"), ("not_in_ledger", "resp-9"), ("tokens", "resp-2"),
        ("twice", "resp-0"),
    ]  # fmt: skip
    as_json = tmp_path / "export.jsonl"
    as_json.write_text('{"id": "r", "usage": {"input_tokens": 3, "output_tokens": 4}}\n')
    assert load_provider_export(as_json)[0].output_tokens == 4
    as_json.write_text('{"id": "r", "input_tokens": "many"}\n')
    with pytest.raises(InvalidRequest, match="entry 1"):
        load_provider_export(as_json)


def test_a_month_is_written_as_year_and_month() -> None:
    assert month_of("2026-12")[1] == datetime(2027, 1, 1, tzinfo=UTC)
    for wrong in ("2026-13", "2026", "26-11", "2026-1", "2026-11-01", "9999-12"):
        with pytest.raises(InvalidRequest):
            month_of(wrong)


def test_a_tier_whose_model_is_retired_is_told() -> None:
    assert PRICES.retired_tiers(date(2026, 11, 24)) == {}
    old = PRICES.tiers[ModelTier.GPT4].model_copy(update={"model": "gpt-4"})
    book = PRICES.model_copy(update={"tiers": {ModelTier.GPT4: old}})
    assert "retired since 2026-10-23" in book.retired_tiers(date(2026, 11, 24))[ModelTier.GPT4]
