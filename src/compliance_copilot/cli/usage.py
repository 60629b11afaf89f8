"""usage: show, events."""

from datetime import timedelta
from typing import Annotated

import typer

from compliance_copilot.cli.output import (
    Json,
    TenantArgument,
    show,
    show_json,
    show_one,
    with_service,
)
from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.vocabulary import Operation, TenantId

app = typer.Typer(no_args_is_help=True)
Hours = Annotated[float, typer.Option(min=0, help="How far back.")]


@app.command("show")
def show_(tenant_id: TenantArgument, hours: Hours = 24.0, as_json: Json = False) -> None:
    """Show the sums over the last hours.

    Example: compliance-copilot usage show acme_corp --hours 720
    """
    from compliance_copilot.core.replies import usage_body
    from compliance_copilot.core.vocabulary import UsageSummary
    from compliance_copilot.orchestrator import Service

    async def work(service: Service) -> UsageSummary:
        await service.tenants.require(TenantId(tenant_id))
        return await service.copilot.metrics(tenant_id, hours)

    show_one(usage_body(with_service(work)), as_json=as_json)


@app.command()
def events(
    tenant_id: TenantArgument,
    hours: Hours = 24.0,
    operation: Annotated[Operation | None, typer.Option(help="Only these rows.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    as_json: Json = False,
) -> None:
    """List the ledger's rows, newest first: one per attempt.

    Example: compliance-copilot usage events acme_corp --operation query --json
    """
    from compliance_copilot.billing.ledger import UsageEvent, UsageFilter
    from compliance_copilot.orchestrator import Service

    since = utc_now() - timedelta(hours=hours)
    wanted = UsageFilter(operation.value if operation else None, since)

    async def work(service: Service) -> tuple[list[UsageEvent], str | None]:
        tenant = TenantId(tenant_id)
        await service.tenants.require(tenant)
        return await service.copilot.usage.list(tenant, wanted=wanted, limit=limit)

    found, cursor = with_service(work)
    if as_json:
        show_json({"events": found, "next_cursor": cursor})
        return
    columns = (
        "started_at",
        "operation",
        "outcome",
        "state",
        "model",
        "input_tokens",
        "output_tokens",
        "cost_micro_usd",
        "latency_ms",
    )
    show(found, as_json=False, name="events", columns=columns)
    if cursor:
        typer.echo(f"There are more; --limit (now {limit}) shows up to 1000.")
