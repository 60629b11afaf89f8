"""A backup: everything in the database as of one instant, in files that any server can read.

Taken as the serving role, in one snapshot, tenant by tenant: it needs no right that the service
does not have, stops nobody, and works on an embedded, a managed and another version's server.
`restoring.py` is the way back.
"""

import gzip
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage import migrations
from compliance_copilot.storage.audit import SYSTEM_CHAIN

FORMAT = "compliance-copilot-backup/1"
MANIFEST = "manifest.json"
AUDIT_FOLDER = "audit"
TABLES = """
    SELECT c.relname::text AS name,
           array_agg(a.attname::text ORDER BY a.attnum) AS columns,
           bool_or(a.attname = 'tenant_id') AS walled
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
      AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
      AND c.relname <> 'alembic_version'
    GROUP BY c.relname ORDER BY c.relname
"""
_POINT = """
    SELECT now()::text AS taken_at, pg_current_snapshot()::text AS snapshot,
           current_setting('server_version') AS server
"""
_LEDGER = """
    SELECT count(*)::bigint AS rows, coalesce(sum(cost_micro_usd), 0)::bigint AS cost_micro_usd
    FROM usage_events WHERE tenant_id = $1
"""
_HEAD = """
    SELECT seq, encode(hash, 'hex') AS hash FROM audit_entries
    WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1
"""
_ENTER = "SELECT set_config('app.tenant_id', $1, true)"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds, and from when it is."""

    format: str
    schema: str
    taken_at: str
    snapshot: str
    server: str
    tables: Mapping[str, Mapping[str, Any]]
    ledger: Mapping[str, int]
    audit_heads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


async def write_backup(dsn: str, folder: Path, *, beside: Path | None = None) -> Manifest:
    """Write a backup into a new folder; `beside` is the audit folder that goes with it.

    Raises SetupError when the folder is in use or cannot be written. A backup that is cut off
    leaves a folder with another name, never half of one under this.
    """
    try:
        draft = _new_draft(folder)
        connection = await asyncpg.connect(dsn)
        try:
            manifest = await _write(connection, draft)
        finally:
            await connection.close()
        _finish(draft, folder, manifest, beside)
    except OSError as error:
        raise SetupError(f"{folder} cannot be written ({error.strerror or error}).") from error
    return manifest


def _new_draft(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SetupError(f"{folder} is not an empty folder; name a new one for each backup.")
    draft = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700, parents=True)
    return draft


def _finish(draft: Path, folder: Path, manifest: Manifest, beside: Path | None) -> None:
    if beside is not None and beside.exists():
        shutil.copytree(beside, draft / AUDIT_FOLDER)
    text = json.dumps(asdict(manifest), indent=2)
    (draft / MANIFEST).write_text(text, encoding="utf-8")
    if folder.exists():
        folder.rmdir()
    os.replace(draft, folder)


async def _write(connection: asyncpg.Connection, folder: Path) -> Manifest:
    schema = await connection.fetchval("SELECT version_num FROM alembic_version")
    if schema != migrations.head()[:4]:
        raise SetupError(f"The schema is {schema}, this code's is another; use its own version.")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        point = await connection.fetchrow(_POINT)
        ids = await connection.fetch("SELECT id FROM tenant_directory ORDER BY id")
        chains = [SYSTEM_CHAIN, *(row["id"] for row in ids)]
        tables = {}
        for table in await connection.fetch(TABLES):
            tables[table["name"]] = await _copy(connection, folder, table, chains)
        sums = await sums_of(connection, chains)
    return Manifest(FORMAT, schema, **dict(point), tables=tables, **sums)


async def _copy(
    connection: asyncpg.Connection,
    folder: Path,
    table: Mapping[str, Any],
    chains: Sequence[str],
) -> dict[str, Any]:
    columns = ", ".join(f'"{name}"' for name in table["columns"])
    query = f'SELECT {columns} FROM public."{table["name"]}"'  # noqa: S608 - names of the catalog
    path = folder / f"{table['name']}.copy.gz"
    rows = 0
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for chain in chains if table["walled"] else [""]:
            await connection.execute(_ENTER, chain)
            done = await connection.copy_from_query(query, output=stream, format="text")
            rows += int(done.rpartition(" ")[2])
    digest = sha256(path.read_bytes()).hexdigest()
    return {"columns": list(table["columns"]), "rows": rows, "sha256": digest}


async def sums_of(connection: asyncpg.Connection, chains: Sequence[str]) -> dict[str, Any]:
    """Return the ledger's sums and every audit chain's head: what a restore is compared by."""
    ledger = {"rows": 0, "cost_micro_usd": 0}
    heads: dict[str, Any] = {}
    for chain in chains:
        await connection.execute(_ENTER, chain)
        sums = await connection.fetchrow(_LEDGER, chain)
        ledger = {name: ledger[name] + sums[name] for name in ledger}
        head = await connection.fetchrow(_HEAD, chain)
        if head is not None:
            heads[chain] = dict(head)
    return {"ledger": ledger, "audit_heads": heads}


def read_manifest(folder: Path) -> Manifest:
    """Return a backup's manifest; every file is there and unchanged. Raises SetupError."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**told)
        for name, facts in manifest.tables.items():
            raw = (folder / f"{name}.copy.gz").read_bytes()
            if sha256(raw).hexdigest() != facts["sha256"]:
                raise SetupError(f"{folder}: {name}.copy.gz is not what was written.")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{folder} is not a whole backup ({error}).") from error
    if manifest.format != FORMAT:
        raise SetupError(f"{folder}: the format {manifest.format!r} is another version's.")
    return manifest
