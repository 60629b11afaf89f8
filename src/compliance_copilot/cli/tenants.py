"""tenants: create, list, show, suspend, resume, delete."""

from typing import Annotated

import typer

from compliance_copilot.core.vocabulary import TenantId

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    tenant_id: str,
    name: Annotated[str | None, typer.Option(help="Defaults to the id.")] = None,
    config: Annotated[list[str] | None, typer.Option(help="e.g. model_tier=gpt-4")] = None,
    limits: Annotated[list[str] | None, typer.Option(help="e.g. max_documents=500")] = None,
) -> None:
    """Create a tenant and show its first key, this once."""
    from compliance_copilot.cli.output import pairs, show, with_service
    from compliance_copilot.tenancy.tenants import NewTenant

    new = NewTenant(tenant_id, name or tenant_id, pairs(config or []), pairs(limits or []))
    tenant, key = with_service(lambda s: s.tenants.create(new, set_by="cli"))
    secret = key.secret if key else None
    show({"tenant_id": tenant.tenant_id, "name": tenant.name, "key": secret}, as_json=True)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the tenants."""
    from compliance_copilot.cli.output import show, with_service
    from compliance_copilot.orchestrator import Service
    from compliance_copilot.tenancy.tenants import Tenant

    async def work(service: Service) -> list[Tenant]:
        ids = await service.tenants.list_ids(limit=1000)
        return [await service.tenants.require(tenant_id) for tenant_id in ids]

    show(with_service(work), as_json=as_json, columns=("tenant_id", "name", "status", "created_at"))


@app.command("show")
def show_(tenant_id: str) -> None:
    """Show a tenant with its limits and the use so far."""
    from compliance_copilot.cli.output import show, with_service
    from compliance_copilot.orchestrator import Service

    async def work(service: Service) -> dict[str, object]:
        tenant = await service.tenants.require(TenantId(tenant_id))
        limits = await service.copilot.limits(tenant_id)
        return {"name": tenant.name, "status": tenant.status, "config": tenant.config, **limits}

    show(with_service(work), as_json=True)


@app.command()
def suspend(tenant_id: str) -> None:
    """Refuse a tenant's requests from now on."""
    _set_status(tenant_id, "suspended")


@app.command()
def resume(tenant_id: str) -> None:
    """Serve a suspended tenant again."""
    _set_status(tenant_id, "active")


@app.command()
def delete(
    tenant_id: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """End a tenant: its keys stop at once, its id is never given out again."""
    from compliance_copilot.cli.output import with_service

    if not yes:
        typer.confirm(f"End {tenant_id} for good?", abort=True)
    with_service(lambda s: s.tenants.delete(TenantId(tenant_id)))
    typer.echo(f"{tenant_id}: deleted")


def _set_status(tenant_id: str, status: str) -> None:
    from compliance_copilot.cli.output import with_service
    from compliance_copilot.tenancy.tenants import TenantChange

    change = TenantChange(status=status)
    with_service(lambda s: s.tenants.update(TenantId(tenant_id), change))
    typer.echo(f"{tenant_id}: {status}")
