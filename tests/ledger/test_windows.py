"""The rolling windows: what is counted, when it leaves, and what came from an older schema."""

import random
import re
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from compliance_copilot.storage import migrations
from compliance_copilot.storage.migrations import read_sql
from tests.conftest import PASSWORD, ROLE, Server

COUNT = """
    SELECT store_windows(counted(w, $2, w.second, 1)) FROM turned(coalesce(
        (SELECT o FROM admission_windows o WHERE o.tenant_id = 'alpha'), no_windows('alpha')), $1) w
"""
STATE = "SELECT * FROM window_state('alpha', $1, $2, $3, $4)"
SUMS = """
    SELECT w.in_minute, w.in_hour, w.oldest
    FROM admission_windows o, turned(o, $1) w WHERE o.tenant_id = 'alpha'
"""
BEGAN_AT = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
STEPS_SECONDS = (0.0, 0.2, 0.9, 1.0, 7.0, 59.99, 60.0, 61.0, 400.0, 3_599.0, 4_000.0)


class Model:
    """Buckets as they were told to people: one counts until all of it has left the window."""

    def __init__(self, width: int, window: int) -> None:
        self.width, self.window = width, window
        self.starts: list[float] = []

    def count(self, at: datetime) -> None:
        self.starts.append(at.timestamp() // self.width * self.width)

    def held(self, at: datetime) -> list[float]:
        """Return when those that count will have left, in seconds from now."""
        reach = self.window + self.width
        leaving = (start - at.timestamp() + reach for start in self.starts)
        return sorted(seconds for seconds in leaving if seconds > 0)


@pytest.fixture
async def alpha(owner: asyncpg.Connection) -> asyncpg.Connection:
    await owner.execute("INSERT INTO tenant_directory VALUES ('alpha')")
    await owner.execute("INSERT INTO tenants (tenant_id, name) VALUES ('alpha', 'alpha')")
    return owner


@pytest.mark.parametrize("seed", range(4))
async def test_windows_hold_what_their_buckets_hold_at_any_instant(
    alpha: asyncpg.Connection, seed: int
) -> None:
    choice = random.Random(seed)  # noqa: S311 - not a secret
    minute, hour = Model(1, 60), Model(60, 3600)
    at = BEGAN_AT
    for _ in range(150):
        at += timedelta(seconds=choice.choice(STEPS_SECONDS))
        operation = choice.choice(("query", "search", "ingest"))
        await alpha.execute(COUNT, at, operation)
        minute.count(at)
        if operation != "ingest":
            hour.count(at)
        later = at + timedelta(seconds=choice.choice(STEPS_SECONDS))
        sums = await alpha.fetchrow(SUMS, later)
        assert sums["in_minute"] == len(minute.held(later))
        assert sums["in_hour"] == len(hour.held(later))
        if sums["in_hour"]:
            leaves_after = sums["oldest"] * 60 + 3660 - later.timestamp()
            assert leaves_after == pytest.approx(hour.held(later)[0], abs=0.01)
        for model in (minute, hour):
            held = model.held(later)
            limit = choice.randrange(1, 5)
            state = await alpha.fetchrow(STATE, model.width, model.window, limit, later)
            assert state["admitted"] == len(held)
            full = model.window + model.width
            assert state["reset_after"] == pytest.approx(held[0] if held else full, abs=0.01)
            wait = held[len(held) - limit] if len(held) >= limit else 0
            assert state["retry_after"] == pytest.approx(wait, abs=0.01)


async def test_a_clock_that_was_set_back_forgets_nobody(alpha: asyncpg.Connection) -> None:
    for seconds in (0, -300, -2, -4_000):
        await alpha.execute(COUNT, BEGAN_AT + timedelta(seconds=seconds), "query")
    for width, window in ((1, 60), (60, 3600)):
        state = await alpha.fetchrow(STATE, width, window, None, BEGAN_AT)
        assert state["admitted"] == 4
        after = BEGAN_AT + timedelta(seconds=window + width)
        state = await alpha.fetchrow(STATE, width, window, None, after)
        assert state["admitted"] == 0


async def test_windows_of_an_older_schema_count_on(
    server: Server, database_name: str, alpha: asyncpg.Connection
) -> None:
    await alpha.execute("DROP TABLE admission_windows CASCADE")
    older = re.search(
        r"CREATE TABLE admission_windows \(.*?;", read_sql("0001_tables.sql"), re.DOTALL
    )
    assert older is not None
    await alpha.execute(older.group())
    await alpha.execute("UPDATE alembic_version SET version_num = '0012'")
    await alpha.execute(
        "INSERT INTO admission_windows SELECT 'alpha', n.width,"
        " to_timestamp(floor(extract(epoch FROM now()) / n.width) * n.width - n.ago), n.admitted"
        " FROM (VALUES (1, 10, 2), (1, 3, 1), (1, 90, 7), (60, 120, 3), (60, 3000, 4),"
        " (60, 7000, 5)) n (width, ago, admitted)"
    )
    await migrations.migrate(server.owner_dsn(database_name), role=ROLE, password=PASSWORD)
    now = await alpha.fetchval("SELECT now()")
    minute = await alpha.fetchrow(STATE, 1, 60, 3, now)
    hour = await alpha.fetchrow(STATE, 60, 3600, 7, now)
    assert (minute["admitted"], hour["admitted"]) == (3, 7), "and none of those that have left"
    assert 40 <= minute["retry_after"] <= 51
    assert 540 <= hour["retry_after"] <= 661
    await alpha.execute(COUNT, now, "query")
    assert (await alpha.fetchrow(STATE, 1, 60, None, now))["admitted"] == 4
