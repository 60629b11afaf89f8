"""The schema: numbered SQL files, applied in order by alembic, as the owner role only.

`versions/NNNN_*.py` name the files of `sql/` in order: tables and data. What can be made anew at
any time is not numbered: the walls around tenants (`sql/walls.sql`) and the types, views and
functions of `sql/routines/` (`routines.py`). The serving role is created and granted what it may
do after every run.
"""

import asyncio
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import asyncpg

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.migrations import routines

_HERE = Path(__file__).parent
_LACKS_VECTOR = """
    SELECT NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')
       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""
_STORE_PRICES = """
    INSERT INTO prices (price_version, model, effective_from, entry)
    SELECT $1, u.model, u.day, u.entry::jsonb
    FROM unnest($2::text[], $3::date[], $4::text[]) u (model, day, entry)
    WHERE NOT EXISTS (SELECT FROM prices p WHERE p.price_version = $1)
    ON CONFLICT DO NOTHING
"""
_OTHER_PRICES = """
    SELECT EXISTS (
        SELECT FROM (SELECT model, effective_from, entry FROM prices WHERE price_version = $1) p
        FULL JOIN (SELECT u.model, u.day AS effective_from, u.entry::jsonb AS entry
                   FROM unnest($2::text[], $3::date[], $4::text[]) u (model, day, entry)) u
        USING (model, effective_from) WHERE p.entry IS DISTINCT FROM u.entry)
"""
MINIMUM_SERVER = 160_000
MINIMUM_VECTOR = (0, 8)


def head() -> str:
    """Return the newest schema that this code knows: its number and its routines' fingerprint."""
    return f"{_newest_step()}-{routines.fingerprint()}"


def _newest_step() -> str:
    return max(p.name[:4] for p in (_HERE / "versions").glob("[0-9]*.py"))


def read_sql(name: str) -> str:
    """Return the text of one file of `sql/`."""
    return (_HERE / "sql" / name).read_text(encoding="utf-8")


async def present(dsn: str) -> str | None:
    """Return the schema in the database in the form of `head`, None when it has none.

    Raises SetupError when the server is too old, or its pgvector is.
    """
    connection = await _connect(dsn, "DATABASE_URL")
    try:
        await _refuse_old_server(connection)
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        number: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return f"{number}-{await routines.installed(connection)}"
    finally:
        await connection.close()


async def lacks_vector(dsn: str) -> bool:
    """Tell whether there is no pgvector and this role may not install it. Raises SetupError."""
    connection = await _connect(dsn, "DATABASE_OWNER_URL")
    try:
        return bool(await connection.fetchval(_LACKS_VECTOR))
    finally:
        await connection.close()


async def migrate(owner_dsn: str, *, role: str, password: str | None) -> None:
    """Bring the schema up to date and grant the serving role its rights; safe to repeat.

    Several processes may call it at once: an advisory lock lets one work and the others wait.
    """
    connection = await _connect(owner_dsn, "DATABASE_OWNER_URL")
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext('compliance_copilot.migrate'))")
        await _install_vector(connection)
        await _refuse_old_server(connection)
        found = await present(owner_dsn)
        if found != head():
            await _upgrade(connection, owner_dsn, found)
        await _grant(connection, role, password)
    finally:
        await connection.close()


async def store_prices(
    owner_dsn: str, version: str, entries: Sequence[tuple[str, date, str]]
) -> None:
    """Keep a version of the price book: (model, effective from, entry as JSON) each.

    Raises SetupError when the version is there with other prices: rows point to it.
    """
    connection = await _connect(owner_dsn, "DATABASE_OWNER_URL")
    try:
        models, days, texts = zip(*entries, strict=True)
        wanted = (version, list(models), list(days), list(texts))
        await connection.execute(_STORE_PRICES, *wanted)
        if await connection.fetchval(_OTHER_PRICES, *wanted):
            raise SetupError(
                f"configs/prices.toml: version {version!r} is already in the database with other "
                "prices, and ledger rows point to it; give the changed file a new version."
            )
    finally:
        await connection.close()


async def ensure_database(maintenance_dsn: str, name: str) -> None:
    """Create the database when the server does not have it yet."""
    connection = await asyncpg.connect(maintenance_dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext('compliance_copilot.create'))")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            quoted = await connection.fetchval("SELECT quote_ident($1)", name)
            await connection.execute(f"CREATE DATABASE {quoted}")
    finally:
        await connection.close()


async def _connect(dsn: str, variable: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(dsn)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(
            f"{variable}: cannot connect ({words}); check host, database, name and password."
        ) from error


async def _install_vector(connection: asyncpg.Connection) -> None:
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    except asyncpg.PostgresError as error:
        raise SetupError(
            f"The database has no pgvector and it cannot be installed ({error}); "
            "run CREATE EXTENSION vector there as a superuser, then start again."
        ) from error


async def _refuse_old_server(connection: asyncpg.Connection) -> None:
    server = int(await connection.fetchval("SHOW server_version_num"))
    if server < MINIMUM_SERVER:
        raise SetupError(f"PostgreSQL {server // 10_000} is too old; use 16 or newer.")
    vector = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname='vector'")
    if vector and tuple(int(part) for part in vector.split(".")[:2]) < MINIMUM_VECTOR:
        raise SetupError(
            f"pgvector {vector} is too old; install 0.8 or newer on the server and run "
            "ALTER EXTENSION vector UPDATE there as a superuser."
        )


async def _upgrade(connection: asyncpg.Connection, owner_dsn: str, found: str | None) -> None:
    number = found[:4] if found else ""
    if number > _newest_step():
        raise SetupError(
            f"The schema {number} is newer than this code ({_newest_step()}); run the version of "
            "the service that made it, or restore a backup."
        )
    if number != _newest_step():
        await asyncio.to_thread(_step_up, owner_dsn)
    await connection.execute(read_sql("walls.sql"))
    await routines.install(connection)


def _step_up(owner_dsn: str) -> None:
    # Imported here: alembic and SQLAlchemy take 0.4 s that a start without migration saves.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["owner_dsn"] = owner_dsn
    command.upgrade(config, "head")


async def _grant(connection: asyncpg.Connection, role: str, password: str | None) -> None:
    quoted = await connection.fetchval("SELECT quote_ident($1)", role)
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        secret = await connection.fetchval("SELECT quote_nullable($1::text)", password)
        await connection.execute(f"CREATE ROLE {quoted} LOGIN PASSWORD {secret}")
    for right in (
        "USAGE ON SCHEMA public",
        f"USAGE ON SCHEMA {routines.SCHEMA}",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public",
        "USAGE ON ALL SEQUENCES IN SCHEMA public",
        f"SELECT ON ALL TABLES IN SCHEMA {routines.SCHEMA}",
        f"EXECUTE ON ALL FUNCTIONS IN SCHEMA {routines.SCHEMA}",
    ):
        await connection.execute(f"GRANT {right} TO {quoted}")
    for table, rights in (
        ("alembic_version", "INSERT, UPDATE, DELETE"),
        ("prices", "INSERT, UPDATE, DELETE"),
        ("tenant_directory", "DELETE"),
        ("usage_events", "DELETE"),
        ("audit_entries", "UPDATE, DELETE"),
    ):
        await connection.execute(f"REVOKE {rights} ON {table} FROM {quoted}")
