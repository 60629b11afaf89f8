"""keys: create, list, rotate, revoke."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from compliance_copilot.cli.output import Json, TenantArgument, show, show_one, with_service
from compliance_copilot.core.vocabulary import Scope, TenantId

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service
    from compliance_copilot.tenancy.keys import IssuedKey, KeyRecord

app = typer.Typer(no_args_is_help=True)
KeyId = Annotated[UUID, typer.Argument(help="The key's id, as `keys list` shows it.")]
Days = Annotated[float | None, typer.Option(min=0, help="Ends by itself after so many days.")]


@app.command()
def create(
    tenant_id: TenantArgument,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "from the command line",
    scope: Annotated[list[Scope] | None, typer.Option(help="Repeat for several.")] = None,
    expires_in_days: Days = None,
    as_json: Json = False,
) -> None:
    """Make a key and show its secret, this once; without --scope it may ask questions.

    Example: compliance-copilot keys create acme_corp --name ci --scope query --scope ingest
    """
    scopes = tuple(scope or (Scope.QUERY,))

    async def work(service: "Service") -> "IssuedKey":
        tenant = TenantId(tenant_id)
        await service.tenants.require(tenant)
        return await service.keys.create(
            tenant, name=name, scopes=scopes, expires_in_days=expires_in_days
        )

    show_one(with_service(work), as_json=as_json)


@app.command("list")
def list_(tenant_id: TenantArgument, as_json: Json = False) -> None:
    """List a tenant's keys, without secrets.

    Example: compliance-copilot keys list acme_corp
    """

    async def work(service: "Service") -> "list[KeyRecord]":
        tenant = TenantId(tenant_id)
        await service.tenants.require(tenant)
        return await service.keys.list(tenant, limit=1000)

    columns = (
        "key_id",
        "name",
        "scopes",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    show(with_service(work), as_json=as_json, name="keys", columns=columns)


@app.command()
def rotate(tenant_id: TenantArgument, key_id: KeyId, as_json: Json = False) -> None:
    """Make a successor of a key; the old one ends after a day.

    Example: compliance-copilot keys rotate acme_corp KEY_ID
    """
    issued = with_service(lambda s: s.keys.rotate(TenantId(tenant_id), key_id))
    show_one(issued, as_json=as_json)


@app.command()
def revoke(tenant_id: TenantArgument, key_id: KeyId, as_json: Json = False) -> None:
    """End a key now, on every worker.

    Example: compliance-copilot keys revoke acme_corp KEY_ID
    """
    with_service(lambda s: s.keys.revoke(TenantId(tenant_id), key_id))
    show_one({"key_id": key_id, "status": "revoked"}, as_json=as_json)
