"""audit: list, verify, export, key."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compliance_copilot.cli.output import Json, show, show_one, show_value, with_service
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import TenantId

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service
    from compliance_copilot.storage.audit_chain import ChainedEntry
    from compliance_copilot.tenancy.audit import Verdict

app = typer.Typer(no_args_is_help=True)
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="The tenant's log; without, the system's.")
]
PublicKey = Annotated[
    str | None,
    typer.Option(
        help="64 hex digits: whose signature counts. Without, the file's own is believed."
    ),
]
ExportedLog = Annotated[Path | None, typer.Argument(help="An exported log; no database is used.")]
Elsewhere = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoints",
        exists=True,
        file_okay=False,
        help="A folder that another host has written (DATA_DIR/audit/checkpoints); repeat it.",
    ),
]
_PUBLIC_KEY = re.compile(r"[0-9a-fA-F]{64}")


@app.command("list")
def list_(
    tenant: Tenant = None,
    action: Annotated[str | None, typer.Option(help="e.g. key.created")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """List what was changed, by whom and when, newest first.

    Examples: compliance-copilot audit list · compliance-copilot audit list --tenant acme_corp
    """
    from compliance_copilot.tenancy.audit import AuditFilter

    async def work(service: "Service") -> "list[ChainedEntry]":
        chain = await _chain(service, tenant)
        wanted = AuditFilter(action=action)
        return await service.audit.list(chain, wanted, before=None, limit=limit)

    columns = ("seq", "at", "actor", "action", "subject", "details")
    rows = [{name: getattr(entry, name) for name in columns} for entry in with_service(work)]
    show(rows, as_json=as_json, name="entries", columns=columns)


@app.command()
def verify(
    file: Annotated[
        Path | None, typer.Argument(help="An exported log; no database is used.")
    ] = None,
    tenant: Tenant = None,
    public_key: PublicKey = None,
    checkpoints: Elsewhere = None,
    as_json: Json = False,
) -> None:
    """Tell whether a log is what it was; ends with 1 and the position when it is not.

    Entries after `anchored` have no checkpoint here: another host wrote them, or nobody was told
    of them.

    Examples: compliance-copilot audit verify --tenant acme_corp --checkpoints host-b/checkpoints ·
    compliance-copilot audit verify acme.jsonl --public-key PUBLIC_KEY
    """
    if public_key is not None and not _PUBLIC_KEY.fullmatch(public_key):
        raise typer.BadParameter("a public key has 64 hexadecimal digits")
    more = checkpoints or []
    verdict = _of_file(file, public_key) if file else with_service(lambda s: _of(s, tenant, more))
    show_one(verdict, as_json=as_json)
    if not verdict.valid:
        raise typer.Exit(1)


@app.command()
def export(
    tenant: Tenant = None,
    output: Annotated[Path | None, typer.Option(help="Where to; without, to stdout.")] = None,
    checkpoints: Elsewhere = None,
    as_json: Json = False,
) -> None:
    """Write a log with its checkpoints, signed, one JSON value per line.

    Example: compliance-copilot audit export --tenant acme_corp --output acme.jsonl
    """

    async def work(service: "Service") -> bytes:
        chain = await _chain(service, tenant)
        lines = service.audit.export(chain, checkpoints or [])
        return b"".join([line async for line in lines])

    written = with_service(work)
    if output is None:
        sys.stdout.write(written.decode())
        return
    try:
        output.write_bytes(written)
    except OSError as error:
        raise SetupError(f"--output {output} cannot be written ({error.strerror}).") from error
    lines = written.count(b"\n")
    if as_json:
        show_one({"file": output, "lines": lines}, as_json=True)
    else:
        typer.echo(f"{lines} lines in {output}")


@app.command()
def key(as_json: Json = False) -> None:
    """Make a signing key for AUDIT_SIGNING_KEY; it is stored nowhere.

    Example: compliance-copilot audit key
    """
    from compliance_copilot.storage.signing import make_key

    show_value("key", make_key(), as_json=as_json)


async def _chain(service: "Service", tenant: str | None) -> TenantId:
    from compliance_copilot.storage.audit import SYSTEM_CHAIN

    if tenant is None:
        return SYSTEM_CHAIN
    return (await service.tenants.require(TenantId(tenant))).tenant_id


async def _of(service: "Service", tenant: str | None, more: list[Path]) -> "Verdict":
    return await service.audit.verify(await _chain(service, tenant), more)


def _of_file(file: Path, public_key: str | None) -> "Verdict":
    from compliance_copilot.tenancy.audit import verified_export

    try:
        return verified_export(file.read_bytes().splitlines(), public_key)
    except OSError as error:
        raise SetupError(f"{file} cannot be read ({error.strerror}).") from error
