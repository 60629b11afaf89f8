"""What a caller is told of how the work ended."""

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.vocabulary import Permit, QueryReply, ReplyMetadata
from compliance_copilot.rag.generation import Answered
from compliance_copilot.rag.retrieval import Retrieved


def query_reply(answered: Answered, told: ReplyMetadata) -> QueryReply:
    """Return the reply to a question."""
    answer = answered.answer
    return QueryReply(answer.text, answer.outcome, answer.sources, answer.citations, told)


def metadata(
    permit: Permit,
    meter: Meter,
    settlement: Settlement,
    found: Retrieved,
    answered: Answered | None = None,
    *,
    standalone: str | None = None,
) -> ReplyMetadata:
    """Return how a reply came about, with the settlement that is about to be made counted in.

    `standalone`: what a follow-up was made into.
    """
    usage = meter.usage if meter.settled else meter.usage_with(settlement)
    cost = meter.cost_micro_usd + (0 if meter.settled else meter.cost_of(settlement))
    return ReplyMetadata(
        tenant_id=permit.tenant_id,
        request_id=permit.request_id,
        model=answered.link.tier.value if answered else settlement.model or "",
        provider_model=settlement.provider_model,
        tokens_used=usage.input_tokens + usage.output_tokens,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=cost / 1_000_000,
        latency_ms=meter.elapsed_ms,
        retrieval_mode=permit.config.retrieval_mode,
        steps=found.steps,
        held_sources=found.held,
        fallback=answered.fallback if answered else None,
        unsupported_sentences=answered.unsupported_sentences if answered else 0,
        standalone_question=standalone,
        quota=permit.quota,
        remaining=permit.remaining,
        reset_seconds=permit.reset_seconds,
    )
