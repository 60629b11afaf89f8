"""Before a question is worked on: was it answered a moment ago, or is it being answered now?

Only whole answers are kept; what a fallback gave because something was down is shared with those
who ask at the same moment, and kept for nobody. A hit is a settled row of its own, provider
`cache`, and costs nothing.
"""

from dataclasses import dataclass, replace

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.events import Tell, tell_whole
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import Permit, QueryReply, ReplyMetadata
from compliance_copilot.orchestrator.asking import Asking, Question
from compliance_copilot.orchestrator.rooms import Rooms
from compliance_copilot.rag.query_cache import CacheKey, normalized
from compliance_copilot.telemetry import metrics

PROVIDER = "cache"


@dataclass(frozen=True, slots=True)
class Caching:
    """Answers admitted questions, equal ones of a tenant once."""

    rooms: Rooms
    asking: Asking

    async def answer(
        self, permit: Permit, question: Question, meter: Meter, tell: Tell, *, fresh: bool
    ) -> QueryReply:
        """Return the settled reply; `fresh` goes round the cache in both directions."""
        if fresh or not permit.config.cache:
            return await self.asking.answer(permit, question, meter, tell)
        key = cache_key(permit, question, permit.corpus_version)
        while True:
            kept = self.rooms.cache.get(key)
            if kept is not None:
                return await _hit(permit, for_asker(question, kept), meter, tell)
            flight = self.rooms.cache.flight(key)
            if flight is None:
                metrics.CACHE.labels("miss", metrics.tenant_label(permit.tenant_id)).inc()
                return await self._lead(key, permit, question, meter, tell)
            await flight.landed.wait()
            if flight.reply is not None:
                return await _hit(permit, for_asker(question, flight.reply), meter, tell)

    async def _lead(
        self, key: CacheKey, permit: Permit, question: Question, meter: Meter, tell: Tell
    ) -> QueryReply:
        """Answer for everybody who waits; when that fails, one of them takes over."""
        self.rooms.cache.take_off(key)
        reply = None
        try:
            reply = await self.asking.answer(permit, question, meter, tell)
            self.keep(permit, key, reply)
            return reply
        finally:
            self.rooms.cache.land(key, reply)

    def keep(self, permit: Permit, key: CacheKey, reply: QueryReply) -> None:
        """Keep a settled reply for those who ask the same, unless it is a makeshift."""
        if self._is_lasting(permit, reply):
            self.rooms.cache.put(key, reply, seconds=permit.config.cache_seconds)

    def _is_lasting(self, permit: Permit, reply: QueryReply) -> bool:
        """Tell whether the same question would be answered by the same tier in a moment."""
        fallback = reply.metadata.fallback
        standing = self.rooms.answerer.standing_reason(permit.config)
        return fallback is None or fallback["reason"] == standing


def cache_key(permit: Permit, question: Question, corpus_version: int) -> CacheKey:
    """Return all that the answer depends on."""
    return CacheKey(
        tenant_id=permit.tenant_id,
        corpus_version=corpus_version,
        config=permit.config,
        question=normalized(question.text),
        narrowing=question.narrowing,
    )


def for_asker(question: Question, kept: QueryReply) -> QueryReply:
    """Return a kept reply as one to this question, which may have been a follow-up."""
    return replace(kept, metadata=replace(kept.metadata, standalone_question=question.standalone))


async def _hit(permit: Permit, kept: QueryReply, meter: Meter, tell: Tell) -> QueryReply:
    metrics.CACHE.labels("hit", metrics.tenant_label(permit.tenant_id)).inc()
    reply = as_own(permit, kept, meter)
    await meter.settle(settlement_of_hit(reply), reply=query_body(reply))
    reply = replace(reply, written=meter.written)
    tell_whole(reply, tell)
    return reply


def as_own(permit: Permit, kept: QueryReply, meter: Meter) -> QueryReply:
    """Return a kept reply as this request's own."""
    told = replace(
        kept.metadata,
        request_id=permit.request_id,
        cached=True,
        tokens_used=0,
        input_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
        latency_ms=meter.elapsed_ms,
    )
    return replace(kept, metadata=with_quota(told, permit))


def with_quota(told: ReplyMetadata, permit: Permit) -> ReplyMetadata:
    """Return the same with what the headers of a reply tell of the hour."""
    return replace(
        told,
        quota=permit.quota,
        remaining=permit.remaining,
        reset_seconds=permit.reset_seconds,
    )


def settlement_of_hit(reply: QueryReply) -> Settlement:
    """Return how a reply that was there before is settled."""
    return Settlement(reply.outcome.value, provider=PROVIDER, model=reply.metadata.model)
