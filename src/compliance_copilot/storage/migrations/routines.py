"""Types, views and functions: made anew as a whole whenever their text has changed.

They lie in a schema of their own, so that making them anew is dropping that schema: nothing of
anybody else's is in it, and nothing is stored in it.
"""

from hashlib import sha256
from pathlib import Path

import asyncpg

SCHEMA = "routines"
SEARCH_PATH = f"public, {SCHEMA}"
_FILES = tuple(sorted((Path(__file__).parent / "sql" / "routines").glob("*.sql")))
_INSTALLED = "SELECT obj_description(to_regnamespace($1), 'pg_namespace')"


def fingerprint() -> str:
    """Return 12 hex digits that stand for the text of all routines."""
    return sha256(b"".join(file.read_bytes() for file in _FILES)).hexdigest()[:12]


async def installed(connection: asyncpg.Connection) -> str | None:
    """Return the fingerprint of the routines in the database, None when there are none."""
    found: str | None = await connection.fetchval(_INSTALLED, SCHEMA)
    return found


async def install(connection: asyncpg.Connection) -> None:
    """Make all routines anew, in one transaction; requests wait meanwhile and then go on."""
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '30s'")
        await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await connection.execute(f"SET LOCAL search_path = {SCHEMA}, public")
        for file in _FILES:
            await connection.execute(file.read_text(encoding="utf-8"))
        await connection.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{fingerprint()}'")
