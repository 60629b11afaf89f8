"""usage: show, events, statement, reconcile."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from compliance_copilot.billing.ledger import UsageEvent
    from compliance_copilot.billing.reconciliation import Reconciliation
    from compliance_copilot.orchestrator import Service

app = typer.Typer(no_args_is_help=True)
_PAGE = 1000
Month = Annotated[
    str | None, typer.Option(help="e.g. 2026-11, in UTC; without, the present month.")
]
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


@app.command()
def statement(tenant_id: TenantArgument, month: Month = None, as_json: Json = False) -> None:
    """Draw a month as an invoice has it; its lines add up to the ledger.

    Example: compliance-copilot usage statement acme_corp --month 2026-11 --json
    """
    from compliance_copilot.billing.statements import Statement
    from compliance_copilot.storage.audit import AuditEntry

    named = month or utc_now().strftime("%Y-%m")

    async def work(service: "Service") -> Statement:
        tenant = (await service.tenants.require(TenantId(tenant_id))).tenant_id
        drawn = await service.copilot.statements.draw(tenant, named)
        entry = AuditEntry("statement.exported", f"month:{named}", {"format": "cli"})
        await service.audit.record(tenant, entry)
        return drawn

    drawn = with_service(work)
    if as_json:
        show_json(drawn)
        return
    columns = ("operation", "provider", "model", "events", "input_tokens", "output_tokens")
    show(drawn.lines, as_json=False, name="lines", columns=(*columns, "cost_micro_usd"))
    typer.echo(f"{drawn.tenant_id} {drawn.month}: {drawn.total_usd} {drawn.currency}")
    if not drawn.complete:
        typer.echo(f"Not final: {'; '.join(drawn.reasons)}")


@app.command()
def reconcile(
    provider_export: Annotated[Path, typer.Option(help="CSV, JSON list or JSON lines of calls.")],
    tenant: Annotated[str | None, typer.Option(help="Only this one; without, all.")] = None,
    month: Month = None,
    as_json: Json = False,
) -> None:
    """Compare the ledger with a provider's own export; ends with 1 when they differ.

    Example: compliance-copilot usage reconcile --provider-export openai-2026-11.csv --month 2026-11
    """
    from compliance_copilot.billing.reconciliation import load_provider_export, reconciled

    calls = load_provider_export(provider_export)
    named = month or utc_now().strftime("%Y-%m")
    found = reconciled(with_service(lambda s: _rows(s, tenant, named)), calls)
    _show_reconciliation(found, as_json=as_json)
    if found.differences:
        raise typer.Exit(1)


async def _rows(service: "Service", only: str | None, month: str) -> "list[UsageEvent]":
    """Return the rows of a month, of one tenant or of all, one tenant at a time."""
    from compliance_copilot.billing.ledger import UsageFilter
    from compliance_copilot.billing.statements import month_of

    wanted = UsageFilter(None, *month_of(month))
    tenants = [TenantId(only)] if only else await service.tenants.list_ids(limit=_PAGE)
    rows: list[UsageEvent] = []
    while tenants:
        for tenant_id in tenants:
            await service.tenants.require(tenant_id)
            cursor: str | None = None
            while True:
                page, cursor = await service.copilot.usage.list(
                    tenant_id, wanted=wanted, cursor=cursor, limit=_PAGE
                )
                rows += page
                if cursor is None:
                    break
        tenants = [] if only else await service.tenants.list_ids(after=tenants[-1], limit=_PAGE)
    return rows


def _show_reconciliation(found: "Reconciliation", *, as_json: bool) -> None:
    if as_json:
        show_json(found)
        return
    columns = ("kind", "response_id", "ours", "theirs", "request_id")
    show(found.differences, as_json=False, name="differences", columns=columns)
    typer.echo(
        f"{found.agreeing} agree, {len(found.differences)} differ, {found.unknown} interrupted."
    )
