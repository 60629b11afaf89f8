"""The way of an admitted question: evidence, answer, settlement."""

from collections.abc import Callable
from dataclasses import dataclass

from compliance_copilot.billing.metering import Meter
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import ModelTier, Permit, QueryReply, Reservation
from compliance_copilot.orchestrator.embedding import Embedding
from compliance_copilot.orchestrator.replying import query_reply, settlement_of
from compliance_copilot.orchestrator.reservations import Reservations
from compliance_copilot.orchestrator.rooms import Rooms
from compliance_copilot.rag.generation import Attempt
from compliance_copilot.rag.retrieval import RetrievalRequest
from compliance_copilot.tenancy.admission import Planner

MOST_QUESTION_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class Asking:
    """Answers questions that were let in."""

    rooms: Rooms
    reservations: Reservations
    embedding: Embedding

    def plan(self, question: str) -> Planner:
        """Return what is put aside before a question is let in: for the first vendor's call."""
        if self.embedding.hosted:
            return self.embedding.for_question(question)
        return self.reservations.for_question(question)

    async def answer(self, permit: Permit, question: str, meter: Meter) -> QueryReply:
        """Return the settled reply to a question."""
        found = await self.embedding.retriever(meter).retrieve(
            permit.tenant_id, retrieval_request(permit, question)
        )
        attempts = _Attempts(meter, self.reservations.on_tier(permit.config, question))
        if self.embedding.hosted:  # its calls are an attempt of their own, the generator's the next
            tier = self.rooms.answerer.chain(permit.config)[0]
            ended = self.embedding.settlement("ok", meter)
            await meter.next_attempt(ended, attempts.reserve(tier))
        answered = await self.rooms.answerer.answer(
            question, found.sources, permit.config, attempts, deadline=permit.deadline
        )
        settlement = settlement_of(answered.attempt, answered.answer.outcome.value)
        reply = query_reply(permit, answered, meter, settlement)
        await meter.settle(settlement, reply=query_body(reply))
        return reply


def checked_question(text: str) -> str:
    """Return the question. Raises InvalidRequest when it is empty or too long."""
    if not text.strip():
        raise InvalidRequest("The question is empty.", field="query")
    if len(text) > MOST_QUESTION_CHARACTERS:
        raise InvalidRequest(
            f"A question has at most {MOST_QUESTION_CHARACTERS} characters.", field="query"
        )
    return text


def retrieval_request(permit: Permit, question: str) -> RetrievalRequest:
    """Return what the retriever is asked for an admitted question or search."""
    return RetrievalRequest(question, permit.config, permit.corpus_version, permit.deadline)


@dataclass(frozen=True, slots=True)
class _Attempts:
    """The chain's view of the meter."""

    meter: Meter
    reserve: Callable[[ModelTier], Reservation]

    def sent(self) -> None:
        self.meter.sent = True

    async def move_on(self, ended: Attempt, tier: ModelTier) -> None:
        await self.meter.next_attempt(
            settlement_of(ended, ended.error or "failed"), self.reserve(tier)
        )
