"""tenants: create, list, show, suspend, resume, delete."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance_copilot.cli.output import (
    Json,
    TenantArgument,
    pairs,
    show,
    show_json,
    show_one,
    with_service,
)
from compliance_copilot.core.vocabulary import TenantId

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service
    from compliance_copilot.tenancy.tenants import Tenant

app = typer.Typer(no_args_is_help=True)
SET_BY = "cli"
_PAGE = 1000
Config = Annotated[list[str] | None, typer.Option(help="e.g. model_tier=gpt-4; repeat it.")]
Limits = Annotated[list[str] | None, typer.Option(help="e.g. max_documents=500; repeat it.")]


@app.command()
def create(
    tenant_id: TenantArgument,
    name: Annotated[str | None, typer.Option(help="Defaults to the id.")] = None,
    config: Config = None,
    limits: Limits = None,
    as_json: Json = False,
) -> None:
    """Create a tenant and show its first key, this once.

    Example: compliance-copilot tenants create acme_corp --name ACME --config retrieval_mode=hybrid
    """
    from compliance_copilot.tenancy.tenants import NewTenant

    new = NewTenant(tenant_id, name or tenant_id, pairs(config or []), pairs(limits or []))
    tenant, key = with_service(lambda s: s.tenants.create(new, set_by=SET_BY), examples=False)
    if as_json:
        show_json({"tenant": tenant, "api_key": key})
        return
    show_one(tenant, as_json=False)
    if key:
        typer.echo(f"Key (shown once): {key.secret}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the tenants.

    Example: compliance-copilot tenants list --json
    """

    async def work(service: "Service") -> "list[Tenant]":
        found: list[TenantId] = []
        while page := await service.tenants.list_ids(after=found[-1] if found else "", limit=_PAGE):
            found += page
        return [await service.tenants.require(tenant_id) for tenant_id in found]

    columns = ("tenant_id", "name", "status", "created_at")
    show(with_service(work), as_json=as_json, name="tenants", columns=columns)


@app.command("show")
def show_(tenant_id: TenantArgument, as_json: Json = False) -> None:
    """Show a tenant with its limits and the use so far.

    Example: compliance-copilot tenants show acme_corp
    """

    async def work(service: "Service") -> dict[str, Any]:
        tenant = await service.tenants.require(TenantId(tenant_id))
        limits = await service.copilot.limits(tenant_id)
        told = {"name": tenant.name, "status": tenant.status, "config": tenant.config}
        return {"tenant_id": tenant_id, **told, **limits}

    show_one(with_service(work), as_json=as_json)


@app.command()
def suspend(tenant_id: TenantArgument, as_json: Json = False) -> None:
    """Refuse a tenant's requests from now on.

    Example: compliance-copilot tenants suspend acme_corp
    """
    _set_status(tenant_id, "suspended", as_json=as_json)


@app.command()
def resume(tenant_id: TenantArgument, as_json: Json = False) -> None:
    """Serve a suspended tenant again.

    Example: compliance-copilot tenants resume acme_corp
    """
    _set_status(tenant_id, "active", as_json=as_json)


@app.command()
def delete(
    tenant_id: TenantArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """End a tenant: its keys stop at once, its id is never given out again.

    Example: compliance-copilot tenants delete acme_corp --yes
    """
    if not yes:
        typer.confirm(f"End {tenant_id} for good?", abort=True, err=True)
    with_service(lambda s: s.erasing.tenant(TenantId(tenant_id), requested_by="command line"))
    show_one({"tenant_id": tenant_id, "status": "deleted"}, as_json=as_json)


def _set_status(tenant_id: str, status: str, *, as_json: bool) -> None:
    from compliance_copilot.tenancy.tenants import TenantChange

    change = TenantChange(status=status)
    tenant = with_service(lambda s: s.tenants.update(TenantId(tenant_id), change))
    show_one({"tenant_id": tenant_id, "status": tenant.status}, as_json=as_json)
