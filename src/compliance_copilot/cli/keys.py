"""keys: create, list, rotate, revoke."""

from typing import Annotated
from uuid import UUID

import typer

from compliance_copilot.core.vocabulary import Scope, TenantId

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    tenant_id: str,
    name: str = "from the command line",
    scope: Annotated[list[Scope] | None, typer.Option(help="Repeat for several.")] = None,
    expires_in_days: float | None = None,
) -> None:
    """Make a key and show its secret, this once."""
    from compliance_copilot.cli.output import show, with_service

    scopes = tuple(scope or (Scope.QUERY,))
    issued = with_service(
        lambda s: s.keys.create(
            TenantId(tenant_id), name=name, scopes=scopes, expires_in_days=expires_in_days
        )
    )
    show(issued, as_json=True)


@app.command("list")
def list_(tenant_id: str, as_json: Json = False) -> None:
    """List a tenant's keys, without secrets."""
    from compliance_copilot.cli.output import show, with_service

    found = with_service(lambda s: s.keys.list(TenantId(tenant_id), limit=1000))
    columns = ("key_id", "name", "scopes", "created_at", "expires_at", "revoked_at")
    show(found, as_json=as_json, columns=columns)


@app.command()
def rotate(tenant_id: str, key_id: UUID) -> None:
    """Make a successor of a key; the old one ends after a day."""
    from compliance_copilot.cli.output import show, with_service

    show(with_service(lambda s: s.keys.rotate(TenantId(tenant_id), key_id)), as_json=True)


@app.command()
def revoke(tenant_id: str, key_id: UUID) -> None:
    """End a key now."""
    from compliance_copilot.cli.output import with_service

    with_service(lambda s: s.keys.revoke(TenantId(tenant_id), key_id))
    typer.echo(f"{key_id}: revoked")
