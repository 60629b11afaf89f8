"""Before a question is let in: can it be answered without asking anybody?

With an answer of a moment ago, or with one that this process makes of a mapped corpus by itself,
which takes milliseconds and costs nothing. It is offered to admission, which settles it in the
same round trip when documents and configuration are still those that it was made from, and gives
nothing of it otherwise. Whoever a vendor, a model or the database works for is let in first.
"""

import time
from dataclasses import dataclass, field, replace
from types import TracebackType

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.events import Tell, tell_whole
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import Permit, QueryReply
from compliance_copilot.orchestrator.asking import Question
from compliance_copilot.orchestrator.caching import (
    Caching,
    as_own,
    cache_key,
    for_asker,
    settlement_of_hit,
    with_quota,
)
from compliance_copilot.orchestrator.rooms import Call
from compliance_copilot.rag.query_cache import CacheKey
from compliance_copilot.telemetry import metrics
from compliance_copilot.tenancy.admission import Draft, Ready


@dataclass(frozen=True, slots=True)
class _Offer:
    """A reply that is as good as settled. `hit`: it was there before."""

    meter: Meter
    settlement: Settlement
    reply: QueryReply
    corpus_version: int
    hit: bool


@dataclass(slots=True)
class AtHand:
    """What can be said to one question at once; a context that ends when it is let in or refused.

    While an answer is made, others who ask the same wait for it.
    """

    caching: Caching
    question: Question
    call: Call
    _began_seconds: float = field(default_factory=time.monotonic)
    _offer: _Offer | None = None
    _flight: CacheKey | None = None

    async def ready(self, draft: Draft | None) -> Ready | None:
        """Return the settlement of an answer under a permit that is about to be, if there is one.

        The reply is written here, so its latency ends with this.
        """
        if draft is None or self.call.conversation_id:  # a follow-up may be asked otherwise
            return None
        offer = self._kept(draft.permit) or await self._made(draft.permit)
        if offer is None:
            return None
        self._offer = offer
        row = offer.meter.prepared(offer.settlement, reply=query_body(offer.reply))
        return Ready(draft.config_version, offer.corpus_version, row)

    def given(self, permit: Permit, tell: Tell) -> QueryReply:
        """Return the reply that admission has settled as it was offered."""
        offer = self._offer
        if offer is None:
            raise RuntimeError("No answer was offered to this admission.")
        offer.meter.was_settled(offer.settlement)
        metadata = with_quota(offer.reply.metadata, permit)
        reply = replace(offer.reply, metadata=metadata, written=offer.meter.written)
        self._note(permit, offer, reply)
        tell_whole(reply, tell)
        return reply

    def __enter__(self) -> "AtHand":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._land(None)

    def _kept(self, permit: Permit) -> _Offer | None:
        cache = self.caching.rooms.cache
        version = None if self.call.fresh else cache.corpus_version(permit.tenant_id)
        if version is None or not permit.config.cache:
            return None
        kept = cache.get(cache_key(permit, self.question, version))
        if kept is None:
            return None
        meter = self._meter(permit)
        reply = as_own(permit, for_asker(self.question, kept), meter)
        return _Offer(meter, settlement_of_hit(reply), reply, version, hit=True)

    async def _made(self, permit: Permit) -> _Offer | None:
        asking, cache = self.caching.asking, self.caching.rooms.cache
        version = asking.at_hand(permit, self.question)
        if version is None:
            return None
        if permit.config.cache and not self.call.fresh:
            key = cache_key(permit, self.question, version)
            if cache.flight(key) is not None:  # whoever is let in waits for that one
                return None
            cache.take_off(key)
            self._flight = key
        permit = replace(permit, corpus_version=version)
        meter = self._meter(permit)
        try:
            reply, settlement = await asking.made(permit, self.question, meter)
        except CopilotError:  # what is wrong is told to those who are let in
            return None
        return _Offer(meter, settlement, reply, version, hit=False)

    def _meter(self, permit: Permit) -> Meter:
        return Meter(self.caching.rooms.metering, permit, self._began_seconds)

    def _note(self, permit: Permit, offer: _Offer, reply: QueryReply) -> None:
        if offer.hit or self._flight is not None:
            which = "hit" if offer.hit else "miss"
            metrics.CACHE.labels(which, metrics.tenant_label(permit.tenant_id)).inc()
        if self._flight is not None:
            self.caching.keep(permit, self._flight, reply)
            self._land(reply)

    def _land(self, reply: QueryReply | None) -> None:
        if self._flight is not None:
            self.caching.rooms.cache.land(self._flight, reply)
            self._flight = None
