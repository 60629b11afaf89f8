"""The statement of a month: what an invoice is drawn from.

Lines are sums of ledger rows in one statement of SQL, so they add up to the ledger exactly. A
month that cannot be closed says so. FOCUS is the open billing format of focus.finops.org (1.2).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Database

_LINES = """
    SELECT operation, coalesce(provider, 'none') AS provider, coalesce(model, '') AS model,
           price_version, count(*) AS events, sum(input_tokens)::bigint AS input_tokens,
           sum(cached_input_tokens)::bigint AS cached_input_tokens,
           sum(output_tokens)::bigint AS output_tokens,
           sum(cost_micro_usd)::bigint AS cost_micro_usd,
           count(*) FILTER (WHERE unpriced) AS unpriced_events,
           count(*) FILTER (WHERE estimated) AS estimated_events,
           count(*) FILTER (WHERE state = 'reserved') AS open_events,
           count(*) FILTER (WHERE state = 'interrupted') AS interrupted_events
    FROM usage_events
    WHERE tenant_id = $1 AND started_at >= $2 AND started_at < $3
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
_PROVIDERS = {"openai": "OpenAI", "anthropic": "Anthropic"}


@dataclass(frozen=True, slots=True)
class StatementLine:
    """All events of one operation, provider, model and price version."""

    operation: str
    provider: str
    model: str
    price_version: str
    events: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    unpriced_events: int
    estimated_events: int
    open_events: int
    interrupted_events: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A month of one tenant. `complete` False: do not close it, `reasons` say why."""

    tenant_id: TenantId
    month: str
    period_start: datetime
    period_end: datetime
    currency: str
    total_micro_usd: int
    total_usd: str
    complete: bool
    reasons: tuple[str, ...]
    unpriced_events: int
    open_events: int
    interrupted_events: int
    lines: tuple[StatementLine, ...]


def month_of(text: str) -> tuple[datetime, datetime]:
    """Return the first instant of a month (`2026-11`, UTC) and of the next.

    Raises InvalidRequest.
    """
    try:
        start = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        start = None
    if start is None or len(text) != len("2026-11") or not 2000 <= start.year < 9999:
        raise InvalidRequest("month: write it as 2026-11.", field="month")
    last = start.month == 12
    return start, start.replace(year=start.year + last, month=1 if last else start.month + 1)


class Statements:
    """Draws statements from the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def draw(self, tenant_id: TenantId, month: str) -> Statement:
        """Return the statement of a month. Raises InvalidRequest for what is no month."""
        start, end = month_of(month)
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_LINES, tenant_id, start, end)
        lines = tuple(StatementLine(**dict(row)) for row in rows)
        reasons = tuple(_reasons(lines, over=end <= utc_now()))
        total = sum(line.cost_micro_usd for line in lines)
        return Statement(
            tenant_id=tenant_id,
            month=month,
            period_start=start,
            period_end=end,
            currency="USD",
            total_micro_usd=total,
            total_usd=_usd(total),
            complete=not reasons,
            reasons=reasons,
            unpriced_events=sum(line.unpriced_events for line in lines),
            open_events=sum(line.open_events for line in lines),
            interrupted_events=sum(line.interrupted_events for line in lines),
            lines=lines,
        )


def _reasons(lines: Iterable[StatementLine], *, over: bool) -> list[str]:
    lines = list(lines)
    unpriced = sum(line.unpriced_events for line in lines)
    running = sum(line.open_events for line in lines)
    unknown = sum(line.interrupted_events for line in lines)
    reasons = []
    if not over:
        reasons.append("the month is not over")
    if unpriced:
        reasons.append(f"{unpriced} events have no price and count as 0")
    if running:
        reasons.append(f"{running} events are not settled yet")
    if unknown:
        reasons.append(f"{unknown} events were interrupted; reconcile them with the provider")
    return reasons


def _usd(micro_usd: int) -> str:
    return f"{Decimal(micro_usd) / 1_000_000:.6f}"


def csv_of(statement: Statement) -> str:
    """Return the lines as CSV, one column for each field, and a last line with the total."""
    rows = [{**asdict(line), "month": statement.month} for line in statement.lines]
    names = ["month", *StatementLine.__slots__]
    state = "complete" if statement.complete else "incomplete: " + "; ".join(statement.reasons)
    total = {
        "month": statement.month,
        "operation": "total",
        "model": state,
        "cost_micro_usd": statement.total_micro_usd,
    }
    return _written(names, [*rows, total])


def focus_of(statement: Statement) -> str:
    """Return the lines as CSV with the columns of FOCUS."""
    rows = [_focus_row(statement, line) for line in statement.lines]
    return _written(list(_focus_row(statement, _NOTHING)), rows)


_NOTHING = StatementLine("", "none", "", "", 0, 0, 0, 0, 0, 0, 0, 0, 0)


def _focus_row(statement: Statement, line: StatementLine) -> dict[str, object]:
    start = statement.period_start.strftime("%Y-%m-%dT%H:%M:%SZ")
    end = statement.period_end.strftime("%Y-%m-%dT%H:%M:%SZ")
    cost, tokens = _usd(line.cost_micro_usd), line.input_tokens + line.output_tokens
    return {
        "BilledCost": cost,
        "BillingAccountId": statement.tenant_id,
        "BillingAccountName": statement.tenant_id,
        "BillingCurrency": statement.currency,
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": f"{line.operation} answered by {line.model or 'nobody'}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": start,
        "ChargePeriodEnd": end,
        "ConsumedQuantity": tokens,
        "ConsumedUnit": "Tokens",
        "ContractedCost": cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": "Compliance Copilot",
        "ListCost": cost,
        "PricingQuantity": tokens,
        "PricingUnit": "Tokens",
        "ProviderName": _PROVIDERS.get(line.provider, "Compliance Copilot"),
        "PublisherName": _PROVIDERS.get(line.provider, "Compliance Copilot"),
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": line.operation,
        "SkuId": line.model,
        "SkuPriceId": line.price_version,
        "x_Events": line.events,
        "x_StatementComplete": str(statement.complete).lower(),
    }


def _written(names: list[str], rows: Iterable[Mapping[str, object]]) -> str:
    text = StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
