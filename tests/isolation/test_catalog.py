"""The database's own catalog: every table of tenants is walled, and the service cannot climb."""

import asyncpg
import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.database import Database, open_database
from tests.conftest import PASSWORD, ROLE, Server

TENANT_TABLES = """
    SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE a.attname = 'tenant_id' AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
      AND c.relnamespace = 'public'::regnamespace
"""
EXPECTED = {
    "tenants", "api_keys", "corpora", "documents", "document_versions", "chunks", "chunk_vectors",
    "term_statistics", "term_blocks", "usage_events", "usage_hours", "admission_windows",
    "spend_months", "idempotency_keys", "ingest_jobs", "ingest_files", "ingest_uploads",
    "replies", "feedback", "audit_entries", "provider_keys", "conversation_turns",
}  # fmt: skip
WALL = "(tenant_id = ( SELECT current_setting('app.tenant_id'::text, true) AS current_setting))"


async def test_every_table_of_tenants_has_row_level_security_enabled_and_forced(
    owner: asyncpg.Connection,
) -> None:
    rows = await owner.fetch(TENANT_TABLES)
    assert {row["relname"] for row in rows} >= EXPECTED
    for row in rows:
        assert row["relrowsecurity"], row["relname"]
        assert row["relforcerowsecurity"], row["relname"]


async def test_every_wall_holds_for_reading_and_for_writing(owner: asyncpg.Connection) -> None:
    for row in await owner.fetch(TENANT_TABLES):
        policies = await owner.fetch(
            "SELECT policyname, cmd, qual, with_check, roles FROM pg_policies WHERE tablename = $1",
            row["relname"],
        )
        walls = {p["policyname"]: p for p in policies}
        wall = walls.pop("tenant_only")
        assert (wall["cmd"], wall["qual"], wall["with_check"]) == ("ALL", WALL, WALL)
        if row["relname"] == "api_keys":
            extra = walls.pop("by_presented_hash")
            assert extra["cmd"] == "SELECT"
            assert "app.key_hash" in extra["qual"]
        assert walls == {}, row["relname"]


async def test_the_directory_of_tenants_holds_ids_and_nothing_else(
    owner: asyncpg.Connection,
) -> None:
    rows = await owner.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'tenant_directory'::regclass"
        " AND attnum > 0 AND NOT attisdropped ORDER BY attname"
    )
    assert [row["attname"] for row in rows] == ["id", "status"]


async def test_keys_of_tables_begin_with_the_tenant(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT con.conrelid::regclass::text AS table_name, con.contype, a.attname"
        " FROM pg_constraint con JOIN pg_attribute a"
        " ON a.attrelid = con.conrelid AND a.attnum = con.conkey[1]"
        " WHERE con.contype IN ('p', 'f', 'u') AND con.conrelid IN"
        f" (SELECT oid FROM ({TENANT_TABLES}) t)"
    )
    assert rows
    assert {row["attname"] for row in rows} == {"tenant_id"}


async def test_no_function_runs_with_its_owners_rights(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace"
        " IN ('public'::regnamespace, 'routines'::regnamespace)"
    )
    assert [row["proname"] for row in rows] == []


async def test_every_view_asks_with_the_rights_of_who_asks(owner: asyncpg.Connection) -> None:
    rows = await owner.fetch(
        "SELECT relname, reloptions FROM pg_class WHERE relkind IN ('v', 'm')"
        " AND relnamespace IN ('public'::regnamespace, 'routines'::regnamespace)"
    )
    assert rows
    for row in rows:
        assert "security_invoker=true" in (row["reloptions"] or []), row["relname"]


async def test_the_serving_role_has_no_power_beyond_its_rows(owner: asyncpg.Connection) -> None:
    role = await owner.fetchrow("SELECT * FROM pg_roles WHERE rolname = $1", ROLE)
    powers = ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb", "rolreplication")
    assert [power for power in powers if role[power]] == []
    may = await owner.fetchrow(
        "SELECT has_table_privilege($1, 'usage_events', 'DELETE') AS deletes_usage,"
        " has_table_privilege($1, 'prices', 'UPDATE') AS prices,"
        " has_table_privilege($1, 'usage_events', 'TRUNCATE') AS truncates,"
        " has_table_privilege($1, 'audit_entries', 'UPDATE') AS edits_audit,"
        " has_table_privilege($1, 'audit_entries', 'DELETE') AS deletes_audit,"
        " has_table_privilege($1, 'audit_entries', 'TRUNCATE') AS truncates_audit,"
        " has_table_privilege($1, 'usage_events', 'SELECT') AS reads",
        ROLE,
    )
    assert dict(may) == {
        "deletes_usage": False, "prices": False, "truncates": False, "reads": True,
        "edits_audit": False, "deletes_audit": False, "truncates_audit": False,
    }  # fmt: skip


async def test_without_a_tenant_no_row_is_seen_and_with_one_its_rows_are(
    database: Database, owner: asyncpg.Connection
) -> None:
    for tenant_id in ("alpha", "beta"):
        await owner.execute("INSERT INTO tenant_directory VALUES ($1)", tenant_id)
        await owner.execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, 'x')", tenant_id)
    assert await database.call_platform("SELECT * FROM tenants") == []
    async with database.transaction("alpha") as connection:
        seen = await connection.fetch("SELECT tenant_id FROM tenants")
        assert [row["tenant_id"] for row in seen] == ["alpha"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("INSERT INTO corpora (tenant_id) VALUES ('beta')")
    async with database.transaction("") as connection:
        assert await connection.fetch("SELECT tenant_id FROM tenants") == []


async def test_a_role_that_the_walls_do_not_bind_is_refused_in_one_line(
    server: Server, database_name: str, owner: asyncpg.Connection
) -> None:
    await owner.execute("DROP ROLE IF EXISTS too_mighty")
    await owner.execute("CREATE ROLE too_mighty LOGIN PASSWORD 'x' BYPASSRLS")
    mighty = server.owner_dsn(database_name).replace("postgres@", "too_mighty:x@", 1)
    try:
        for dsn in (server.owner_dsn(database_name), mighty):
            with pytest.raises(SetupError) as refused:
                async with open_database(dsn):
                    pass
            assert "\n" not in refused.value.detail
            assert refused.value.detail.startswith("DATABASE_URL: role")
    finally:
        await owner.execute("DROP ROLE too_mighty")
    async with open_database(server.serving_dsn(database_name)) as database:
        assert await database.call_platform("SELECT 1 AS one")


async def test_a_role_that_may_become_mighty_or_starts_inside_a_tenant_is_refused(
    server: Server, database_name: str, owner: asyncpg.Connection
) -> None:
    name = f"copilot_{database_name[-12:]}"
    login = server.serving_dsn(database_name).replace(ROLE, name, 1)
    await owner.execute(f"CREATE ROLE {name}_group BYPASSRLS")
    await owner.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    try:
        async with open_database(login) as database:
            assert await database.call_platform("SELECT 1 AS one")
        for given, taken, words in (
            (f"GRANT {name}_group TO {name}", f"REVOKE {name}_group FROM {name}", "may become"),
            (
                f"ALTER ROLE {name} SET app.tenant_id = 'alpha'",
                f"ALTER ROLE {name} RESET app.tenant_id",
                "inside a tenant",
            ),
        ):
            await owner.execute(given)
            with pytest.raises(SetupError) as refused:
                async with open_database(login):
                    pass
            assert words in refused.value.detail
            await owner.execute(taken)
    finally:
        await owner.execute(f"DROP ROLE {name}; DROP ROLE {name}_group")
