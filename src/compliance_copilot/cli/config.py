"""config: show, set, defaults."""

from dataclasses import asdict
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
    from compliance_copilot.tenancy.cascade import ValueOrigin

app = typer.Typer(no_args_is_help=True)
SET_BY = "cli"
Values = Annotated[list[str], typer.Argument(help="field=value, e.g. top_k=8")]


@app.command("show")
def show_(tenant_id: TenantArgument, as_json: Json = False) -> None:
    """Show what holds for a tenant: each value with its layer, who set it and when.

    Example: compliance-copilot config show acme_corp
    """
    version, origins = with_service(lambda s: s.config.explain(TenantId(tenant_id)))
    _show(version, origins, as_json=as_json)


@app.command("set")
def set_(tenant_id: TenantArgument, values: Values, as_json: Json = False) -> None:
    """Set values for a tenant; they hold for its next request, on every worker.

    Example: compliance-copilot config set acme_corp retrieval_mode=hybrid top_k=8
    """
    given = pairs(values)

    async def work(service: "Service") -> int:
        return await service.config.update_tenant_config(tenant_id, set_by=SET_BY, **given)

    version = with_service(work)
    show_one({"tenant_id": tenant_id, "version": version, **given}, as_json=as_json)


@app.command()
def defaults(values: Values, as_json: Json = False) -> None:
    """Set the system's values, which hold where a tenant has none of its own.

    Example: compliance-copilot config defaults top_k=8
    """
    given = pairs(values)

    async def work(service: "Service") -> int:
        return await service.config.set_system_defaults(set_by=SET_BY, **given)

    show_one({"version": with_service(work), **given}, as_json=as_json)


def _show(version: int, origins: "dict[str, ValueOrigin]", *, as_json: bool) -> None:
    rows: dict[str, dict[str, Any]] = {name: asdict(origin) for name, origin in origins.items()}
    if as_json:
        show_json({"version": version, "values": rows})
        return
    table = [{"field": name, **row} for name, row in rows.items()]
    columns = ("field", "value", "layer", "set_by", "set_at")
    show(table, as_json=False, name="values", columns=columns)
