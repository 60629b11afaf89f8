"""The ledger's rows once more as metrics: an invoice comes from the rows alone."""

from typing import TYPE_CHECKING

from compliance_copilot.core.vocabulary import Permit
from compliance_copilot.telemetry import metrics

if TYPE_CHECKING:
    from compliance_copilot.billing.metering import Settlement


def count_attempt(
    permit: Permit, settlement: "Settlement", *, micro_usd: int, unpriced: bool
) -> None:
    """Count a settled attempt: how it ended, its tokens, its cost."""
    provider, model = settlement.provider or "none", settlement.model or "none"
    metrics.ATTEMPTS.labels(permit.operation.value, provider, model, settlement.outcome).inc()
    if unpriced:
        metrics.UNPRICED.labels(model).inc()
    usage = settlement.usage
    if not (usage.input_tokens or usage.output_tokens or micro_usd):
        return
    tenant = metrics.tenant_label(permit.tenant_id)
    metrics.TOKENS.labels(provider, model, "input", tenant).inc(usage.input_tokens)
    metrics.TOKENS.labels(provider, model, "output", tenant).inc(usage.output_tokens)
    metrics.COST.labels(provider, model, tenant).inc(micro_usd)


def count_end(permit: Permit, outcome: str) -> None:
    """Count a request whose last attempt is settled."""
    tenant = metrics.tenant_label(permit.tenant_id)
    metrics.OPERATIONS.labels(permit.operation.value, outcome, tenant).inc()
