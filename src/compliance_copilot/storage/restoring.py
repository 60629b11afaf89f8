"""The way back from a backup: into an empty database, in one transaction, compared at its end."""

import gzip
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.audit import SYSTEM_CHAIN
from compliance_copilot.storage.backup import (
    AUDIT_FOLDER,
    TABLES,
    Manifest,
    read_manifest,
    sums_of,
)
from compliance_copilot.storage.migrations.routines import SEARCH_PATH

_PARENTS = """
    SELECT con.conrelid::regclass::text AS child, con.confrelid::regclass::text AS parent
    FROM pg_constraint con WHERE con.contype = 'f' AND con.conrelid <> con.confrelid
      AND con.connamespace = 'public'::regnamespace
"""
_SEQUENCES = """
    SELECT c.relname::text AS table_name, a.attname::text AS column_name,
           pg_get_serial_sequence(quote_ident(c.relname), a.attname) AS sequence
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped
      AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL
"""


async def restore_backup(owner_dsn: str, folder: Path, *, beside: Path | None = None) -> Manifest:
    """Restore a backup into a migrated database without tenants, all of it or nothing.

    `beside` is where the audit folder goes. Raises SetupError.
    """
    manifest = read_manifest(folder)
    path = {"search_path": SEARCH_PATH}
    connection = await asyncpg.connect(owner_dsn, server_settings=path)
    try:
        await _refuse_unfit(connection, manifest)
        async with connection.transaction():
            await _fill(connection, manifest, folder)
            await _compare(connection, manifest)
    finally:
        await connection.close()
    if beside is not None and (folder / AUDIT_FOLDER).exists():
        shutil.copytree(folder / AUDIT_FOLDER, beside, dirs_exist_ok=True)
    return manifest


async def _refuse_unfit(connection: asyncpg.Connection, manifest: Manifest) -> None:
    schema = await connection.fetchval("SELECT version_num FROM alembic_version")
    if schema != manifest.schema:
        raise SetupError(
            f"The backup's schema is {manifest.schema}, this code's {schema}; restore it with the"
            " version of the service that made it, then upgrade."
        )
    if await connection.fetchval("SELECT count(*) FROM tenant_directory"):
        raise SetupError(
            "The database has tenants already; restore into an empty one (another DATA_DIR, or"
            " another database in DATABASE_URL and DATABASE_OWNER_URL)."
        )
    known = {row["name"] for row in await connection.fetch(TABLES)}
    if known != set(manifest.tables):
        other = ", ".join(sorted(known ^ set(manifest.tables)))
        raise SetupError(f"The backup and this schema differ in the tables {other}.")


async def _fill(connection: asyncpg.Connection, manifest: Manifest, folder: Path) -> None:
    """Copy every table in, parents first, while its walls and its triggers stand aside."""
    links = await connection.fetch(_PARENTS)
    order = _parents_first(manifest.tables, links)
    forced = await _forced(connection)
    for name in order:
        await connection.execute(f'ALTER TABLE public."{name}" DISABLE TRIGGER USER')
        if name in forced:
            await connection.execute(f'ALTER TABLE public."{name}" NO FORCE ROW LEVEL SECURITY')
    await connection.execute(
        "TRUNCATE " + ", ".join(f'public."{name}"' for name in reversed(order))
    )
    for name in order:
        with gzip.open(folder / f"{name}.copy.gz", "rb") as stream:
            await _copy_in(connection, name, manifest.tables[name], stream)
    for row in await connection.fetch(_SEQUENCES):
        await connection.execute(
            f"SELECT setval('{row['sequence']}',"  # noqa: S608 - names of the catalog
            f' (SELECT coalesce(max("{row["column_name"]}"), 0) + 1'
            f' FROM public."{row["table_name"]}"), false)'
        )
    for name in order:
        await connection.execute(f'ALTER TABLE public."{name}" ENABLE TRIGGER USER')
        if name in forced:
            await connection.execute(f'ALTER TABLE public."{name}" FORCE ROW LEVEL SECURITY')


async def _copy_in(
    connection: asyncpg.Connection, name: str, facts: Mapping[str, Any], stream: gzip.GzipFile
) -> None:
    done = await connection.copy_to_table(
        name, source=stream, schema_name="public", columns=facts["columns"], format="text"
    )
    if int(done.rpartition(" ")[2]) != facts["rows"]:
        raise SetupError(f"{name} has other rows than the backup says; nothing was restored.")


async def _forced(connection: asyncpg.Connection) -> set[str]:
    rows = await connection.fetch(
        "SELECT relname::text FROM pg_class WHERE relforcerowsecurity"
        " AND relnamespace = 'public'::regnamespace"
    )
    return {row["relname"] for row in rows}


async def _compare(connection: asyncpg.Connection, manifest: Manifest) -> None:
    ids = await connection.fetch("SELECT id FROM tenant_directory ORDER BY id")
    found = await sums_of(connection, [SYSTEM_CHAIN, *(row["id"] for row in ids)])
    if found != {"ledger": manifest.ledger, "audit_heads": manifest.audit_heads}:
        raise SetupError("The restored sums differ from the backup's; nothing was restored.")


def _parents_first(tables: Iterable[str], links: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the tables so that each comes after those it refers to."""
    waiting = sorted(tables)
    parents: dict[str, set[str]] = {name: set() for name in waiting}
    for link in links:
        parents[link["child"]].add(link["parent"])
    order: list[str] = []
    while waiting:
        free = [name for name in waiting if parents[name] <= set(order)]
        if not free:
            raise SetupError(f"The tables {', '.join(waiting)} refer to one another in a circle.")
        order += free
        waiting = [name for name in waiting if name not in free]
    return order
