"""backup and restore: everything as of one instant, and the way back."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance_copilot.cli.output import Json, show_one
from compliance_copilot.core.errors import SetupError

if TYPE_CHECKING:
    from compliance_copilot.storage.backup import Manifest

_BACKUP = """Write everything, as of one instant, into a new folder; the service may run meanwhile.

It holds texts and hashes of keys, and the audit log's checkpoints with DATA_DIR's signing key:
keep it as safe as the database.

Examples: compliance-copilot backup backups/2026-11-24 · compliance-copilot backup DIR --json
"""
_RESTORE = """Restore a backup into a database without tenants, all of it or nothing.

Name the new place first: DATA_DIR for the embedded server, or DATABASE_URL and DATABASE_OWNER_URL.
The ledger's sum and the audit log's heads are compared at the end.

Example: DATA_DIR=.restored compliance-copilot restore backups/2026-11-24
"""
Folder = Annotated[Path, typer.Argument(help="A folder of its own for each backup.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(help=_BACKUP)(backup)
    app.command(help=_RESTORE)(restore)


def backup(folder: Folder, as_json: Json = False) -> None:
    """Write a backup and tell from when it is."""
    show_one(_summary(asyncio.run(_backup(folder.absolute())), folder), as_json=as_json)


def restore(folder: Folder, as_json: Json = False) -> None:
    """Restore a backup and tell from when it is."""
    show_one(_summary(asyncio.run(_restore(folder.absolute())), folder), as_json=as_json)


async def _backup(folder: Path) -> "Manifest":
    from compliance_copilot.settings import load_settings
    from compliance_copilot.storage.backup import write_backup
    from compliance_copilot.wiring import open_server

    settings = load_settings()
    async with open_server(settings) as addresses:
        return await write_backup(addresses.serving, folder, beside=settings.data_dir / "audit")


async def _restore(folder: Path) -> "Manifest":
    from compliance_copilot.billing.prices import load_price_book
    from compliance_copilot.settings import PROJECT_ROOT, load_settings
    from compliance_copilot.storage.backup import read_manifest
    from compliance_copilot.storage.restoring import restore_backup
    from compliance_copilot.wiring import bring_up_to_date, open_server

    settings = load_settings()
    read_manifest(folder)  # before a server is started for what is no backup
    async with open_server(settings) as addresses:
        if addresses.owner is None:
            raise SetupError("DATABASE_OWNER_URL: restoring needs the owner's address; set it.")
        prices = load_price_book(PROJECT_ROOT / "configs" / "prices.toml")
        await bring_up_to_date(addresses, prices)
        return await restore_backup(addresses.owner, folder, beside=settings.data_dir / "audit")


def _summary(manifest: "Manifest", folder: Path) -> dict[str, Any]:
    return {
        "folder": folder,
        "taken_at": manifest.taken_at,
        "schema": manifest.schema,
        "rows": sum(facts["rows"] for facts in manifest.tables.values()),
        "ledger_rows": manifest.ledger["rows"],
        "ledger_micro_usd": manifest.ledger["cost_micro_usd"],
        "audit_chains": len(manifest.audit_heads),
    }
