"""Before a question is worked on: was it answered a moment ago, or is it being answered now?

Only whole answers are kept; what a fallback gave because something was down is shared with those
who ask at the same moment, and kept for nobody. A hit is a settled row of its own, provider
`cache`, and costs nothing. An answer at hand is offered to admission, which settles it in the same
round trip if documents and configuration are still those that it was made from.
"""

import time
from dataclasses import dataclass, field, replace

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.events import Tell, tell_whole
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import Permit, QueryReply, ReplyMetadata
from compliance_copilot.orchestrator.asking import Asking, Question
from compliance_copilot.orchestrator.rooms import Call, Rooms
from compliance_copilot.rag.query_cache import CacheKey, normalized
from compliance_copilot.telemetry import metrics
from compliance_copilot.tenancy.admission import Ready

PROVIDER = "cache"


@dataclass(frozen=True, slots=True)
class Caching:
    """Answers admitted questions, equal ones of a tenant once."""

    rooms: Rooms
    asking: Asking

    def at_hand(self, question: Question, call: Call) -> "AtHand":
        """Return what is offered to admission; a follow-up is not known before its admission."""
        return AtHand(self.rooms, question, closed=call.fresh or bool(call.conversation_id))

    async def answer(
        self, permit: Permit, question: Question, meter: Meter, tell: Tell, *, fresh: bool
    ) -> QueryReply:
        """Return the settled reply; `fresh` goes round the cache in both directions."""
        if fresh or not permit.config.cache:
            return await self.asking.answer(permit, question, meter, tell)
        key = cache_key(permit, question)
        while True:
            kept = self.rooms.cache.get(key)
            if kept is not None:
                return await _hit(permit, _of(question, kept), meter, tell)
            flight = self.rooms.cache.flight(key)
            if flight is None:
                metrics.CACHE.labels("miss", metrics.tenant_label(permit.tenant_id)).inc()
                return await self._lead(key, permit, question, meter, tell)
            await flight.landed.wait()
            if flight.reply is not None:
                return await _hit(permit, _of(question, flight.reply), meter, tell)

    async def _lead(
        self, key: CacheKey, permit: Permit, question: Question, meter: Meter, tell: Tell
    ) -> QueryReply:
        """Answer for everybody who waits; when that fails, one of them takes over."""
        self.rooms.cache.take_off(key)
        reply = None
        try:
            reply = await self.asking.answer(permit, question, meter, tell)
            if self._is_lasting(permit, reply):
                self.rooms.cache.put(key, reply, seconds=permit.config.cache_seconds)
            return reply
        finally:
            self.rooms.cache.land(key, reply)

    def _is_lasting(self, permit: Permit, reply: QueryReply) -> bool:
        """Tell whether the same question would be answered by the same tier in a moment."""
        fallback = reply.metadata.fallback
        standing = self.rooms.answerer.standing_reason(permit.config)
        return fallback is None or fallback["reason"] == standing


@dataclass(slots=True)
class AtHand:
    """The answer that this process may hold already to one question."""

    rooms: Rooms
    question: Question
    closed: bool
    """The cache is not to be looked at."""
    _began_seconds: float = field(default_factory=time.monotonic)
    _offered: tuple[Meter, QueryReply] | None = None

    def ready(self, permit: Permit) -> Ready | None:
        """Return the settlement of the answer under a permit that is about to be, if there is one.

        The reply is written here, so its latency ends with this.
        """
        version = None if self.closed else self.rooms.cache.corpus_version(permit.tenant_id)
        if version is None or not permit.config.cache:
            return None
        kept = self.rooms.cache.get(
            cache_key(replace(permit, corpus_version=version), self.question)
        )
        if kept is None:
            return None
        meter = Meter(self.rooms.metering, permit, self._began_seconds)
        reply = _told(permit, _of(self.question, kept), meter)
        row = meter.prepared(_settlement(reply), reply=query_body(reply))
        self._offered = meter, replace(reply, written=meter.written)
        return Ready(version, row)

    def given(self, permit: Permit, tell: Tell) -> QueryReply:
        """Return the reply that admission has settled as it was offered."""
        if self._offered is None:
            raise RuntimeError("No answer was offered to this admission.")
        meter, reply = self._offered
        meter.was_settled(_settlement(reply))
        metrics.CACHE.labels("hit", metrics.tenant_label(permit.tenant_id)).inc()
        reply = replace(reply, metadata=_with_quota(reply.metadata, permit))
        tell_whole(reply, tell)
        return reply


def cache_key(permit: Permit, question: Question) -> CacheKey:
    """Return all that the answer depends on."""
    return CacheKey(
        tenant_id=permit.tenant_id,
        corpus_version=permit.corpus_version,
        config=permit.config,
        question=normalized(question.text),
        narrowing=question.narrowing,
    )


def _of(question: Question, kept: QueryReply) -> QueryReply:
    """Return a kept reply as one to this question, which may have been a follow-up."""
    return replace(kept, metadata=replace(kept.metadata, standalone_question=question.standalone))


async def _hit(permit: Permit, kept: QueryReply, meter: Meter, tell: Tell) -> QueryReply:
    metrics.CACHE.labels("hit", metrics.tenant_label(permit.tenant_id)).inc()
    reply = _told(permit, kept, meter)
    await meter.settle(_settlement(reply), reply=query_body(reply))
    reply = replace(reply, written=meter.written)
    tell_whole(reply, tell)
    return reply


def _told(permit: Permit, kept: QueryReply, meter: Meter) -> QueryReply:
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
    return replace(kept, metadata=_with_quota(told, permit))


def _with_quota(told: ReplyMetadata, permit: Permit) -> ReplyMetadata:
    """Return the same with what the headers of a reply tell of the hour."""
    return replace(
        told,
        quota=permit.quota,
        remaining=permit.remaining,
        reset_seconds=permit.reset_seconds,
    )


def _settlement(reply: QueryReply) -> Settlement:
    return Settlement(reply.outcome.value, provider=PROVIDER, model=reply.metadata.model)
