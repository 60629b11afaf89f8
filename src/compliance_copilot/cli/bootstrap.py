"""bootstrap: the tenants of a file, created or updated."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from compliance_copilot.cli.output import Json, show, with_service
from compliance_copilot.core.errors import SetupError

_HELP = """Create or update the tenants of a file; safe to repeat.

The first key of a new tenant is shown once, or written to a folder as <tenant_id>.key (0600).

Examples: compliance-copilot bootstrap configs/example.json ·
compliance-copilot bootstrap tenants.json --keys-dir ./keys --json
"""
_KEYS_DIR = typer.Option(help="Write first keys there, not to the terminal.")


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(bootstrap)


def bootstrap(
    file: Annotated[Path, typer.Argument(help="e.g. configs/example.json")],
    keys_dir: Annotated[Path | None, _KEYS_DIR] = None,
    as_json: Json = False,
) -> None:
    """Apply a file of tenants and tell what became of each."""
    from compliance_copilot.bootstrap import apply_tenants, load_tenants, write_key

    tenants = load_tenants(file)
    if keys_dir:
        _require_writable(keys_dir)  # before there are keys that could be lost
    secrets = with_service(lambda s: apply_tenants(s, tenants), examples=False)
    rows: list[dict[str, Any]] = []
    for tenant_id, secret in secrets.items():
        row: dict[str, Any] = {"tenant_id": tenant_id, "status": "created" if secret else "updated"}
        if secret and keys_dir:
            row["key_file"] = write_key(keys_dir, tenant_id, secret)
        elif secret:
            row["key"] = secret
        rows.append(row)
    where = ["key_file"] if keys_dir else ["key"]
    columns = ["tenant_id", "status", *(where if any(secrets.values()) else [])]
    show(rows, as_json=as_json, name="tenants", columns=columns)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SetupError(
            f"--keys-dir {folder} cannot be written ({error.strerror}); name another folder."
        ) from error
