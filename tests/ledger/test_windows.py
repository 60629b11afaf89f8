"""The rolling windows: what is counted, when it leaves, and what came from an older schema."""

import random
import re
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from compliance_copilot.storage.migrations import read_sql, routines

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


async def test_windows_of_an_older_schema_count_on(alpha: asyncpg.Connection) -> None:
    await alpha.execute("DROP TABLE admission_windows CASCADE")
    older = re.search(
        r"CREATE TABLE admission_windows \(.*?;", read_sql("0001_tables.sql"), re.DOTALL
    )
    assert older is not None
    await alpha.execute(older.group())
    minute, hour = Model(1, 60), Model(60, 3600)
    now = datetime.now(UTC)
    for model, ago_seconds in (
        (minute, (2, 2, 5, 40, 90)),
        (hour, (120, 120, 1_000, 3_000, 7_000)),
    ):
        for seconds in ago_seconds:
            model.count(now - timedelta(seconds=seconds))
        for start in set(model.starts):
            await alpha.execute(
                "INSERT INTO admission_windows VALUES ('alpha', $1, to_timestamp($2::float8), $3)",
                model.width,
                start,
                model.starts.count(start),
            )
    await alpha.execute(read_sql("0013_window_rings.sql"))
    await routines.install(alpha)
    at = await alpha.fetchval("SELECT to_timestamp(second) FROM admission_windows")
    for model in (minute, hour):
        held = model.held(at)
        state = await alpha.fetchrow(STATE, model.width, model.window, 1, at)
        assert state["admitted"] == len(held)
        assert state["retry_after"] == pytest.approx(held[-1], abs=0.01)
    await alpha.execute(COUNT, at, "query")
    assert (await alpha.fetchrow(STATE, 60, 3600, None, at))["admitted"] == len(hour.held(at)) + 1
