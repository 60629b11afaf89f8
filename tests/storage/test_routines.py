"""Types, views and functions are made anew when their text changed, and only then."""

import re

import asyncpg
import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage import migrations
from compliance_copilot.storage.migrations import routines
from tests.conftest import PASSWORD, ROLE, Server

IDENTITY = "SELECT 'settle'::regproc::oid"


async def test_routines_whose_text_is_the_same_are_left_alone(
    server: Server, database_name: str, owner: asyncpg.Connection
) -> None:
    before = await owner.fetchval(IDENTITY)
    await migrations.migrate(server.owner_dsn(database_name), role=ROLE, password=PASSWORD)
    assert await owner.fetchval(IDENTITY) == before


async def test_routines_of_another_text_are_made_anew_and_the_tables_kept(
    server: Server, database_name: str, owner: asyncpg.Connection
) -> None:
    dsn = server.owner_dsn(database_name)
    await owner.execute("INSERT INTO tenant_directory VALUES ('acme')")
    await owner.execute("COMMENT ON SCHEMA routines IS 'an older text'")
    before = await owner.fetchval(IDENTITY)
    assert await migrations.present(dsn) != migrations.head()
    await migrations.migrate(dsn, role=ROLE, password=PASSWORD)
    assert await owner.fetchval(IDENTITY) != before
    assert await routines.installed(owner) == routines.fingerprint()
    assert await owner.fetchval("SELECT count(*) FROM tenant_directory") == 1


async def test_a_schema_newer_than_the_code_is_refused(
    server: Server, database_name: str, owner: asyncpg.Connection
) -> None:
    await owner.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SetupError, match="newer than this code"):
        await migrations.migrate(server.owner_dsn(database_name), role=ROLE, password=PASSWORD)


async def test_what_runs_over_all_tenants_asks_for_the_time_once_and_not_for_each_row(
    owner: asyncpg.Connection,
) -> None:
    """A call that is made anew for each row is no condition of an index."""
    background = ["end_leases", "forget_replies", "work_waiting", "requests_before"]
    background += ["claim_vectors", "tenants_with_due_vectors"]
    sources = await owner.fetch(
        "SELECT proname, prosrc FROM pg_proc WHERE proname = ANY ($1)", background
    )
    assert sorted(row["proname"] for row in sources) == sorted(background)
    anew = re.compile(r"[<>]=?\s*clock_timestamp")
    assert [row["proname"] for row in sources if anew.search(row["prosrc"])] == []
    assert anew.search("WHERE o.due_at <= clock_timestamp()")
