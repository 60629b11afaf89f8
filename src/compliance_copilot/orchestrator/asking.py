"""The way of an admitted question: evidence, answer, settlement.

Streamed or not, this is the one way; a stream is somebody who listens (`tell`).
"""

from dataclasses import dataclass, replace

from compliance_copilot.billing.metering import Meter, Settlement
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.events import Done, Sources, Tell, nobody
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import Permit, QueryReply, RetrievalMode
from compliance_copilot.orchestrator.attempts import LedgerAttempts
from compliance_copilot.orchestrator.embedding import LOCAL, Embedding
from compliance_copilot.orchestrator.replying import metadata, query_reply
from compliance_copilot.orchestrator.reservations import Reservations
from compliance_copilot.orchestrator.rooms import Rooms
from compliance_copilot.orchestrator.steps import LedgerSteps
from compliance_copilot.rag import advice
from compliance_copilot.rag.filter_language import EVERYTHING, Narrowing
from compliance_copilot.rag.retrieval import RetrievalRequest, Retrieved
from compliance_copilot.tenancy.admission import Planner

MOST_QUESTION_CHARACTERS = 8_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and of what part of the corpus."""

    text: str
    narrowing: Narrowing = EVERYTHING
    rewritten: bool = False
    """It was a follow-up, and `text` is what it was made into."""

    @property
    def standalone(self) -> str | None:
        """What the reply tells of a follow-up."""
        return self.text if self.rewritten else None


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

    async def answer(
        self, permit: Permit, question: Question, meter: Meter, tell: Tell
    ) -> QueryReply:
        """Return the settled reply to a question; `tell` hears of it on the way."""
        reserve = self.reservations.on_tier(permit.config, question.text)
        attempts = LedgerAttempts(meter, permit, reserve)
        try:
            reply, settlement = await self._answered(permit, question, attempts, tell)
            await meter.settle(settlement, reply=query_body(reply))
            reply = replace(reply, written=meter.written)
        except BaseException:
            # What an attempt used is known better here than where the request ends.
            if attempts.pending is not None:
                await meter.settle(attempts.pending)
            raise
        tell(Done(reply))
        return reply

    def at_hand(self, permit: Permit, question: Question) -> int | None:
        """Return the version of the corpus from which this process alone answers a question.

        None when somebody has to be asked: a vendor, the database, a model step by step.
        """
        config = permit.config
        several = config.retrieval_mode is RetrievalMode.AGENTIC
        if several or self.embedding.hosted or question.narrowing != EVERYTHING:
            return None
        if self.rooms.answerer.chain(config)[0].generator.provider != LOCAL:
            return None
        return self.rooms.mapped(permit.tenant_id)

    async def made(
        self, permit: Permit, question: Question, meter: Meter
    ) -> tuple[QueryReply, Settlement]:
        """Return the reply to a question that is `at_hand`, and how it is to be settled."""
        reserve = self.reservations.on_tier(permit.config, question.text)
        return await self._answered(
            permit, question, LedgerAttempts(meter, permit, reserve), nobody
        )

    async def standing(
        self, permit: Permit, question: Question, conversation_id: str, meter: Meter
    ) -> Question:
        """Return the question of a conversation so that it stands alone."""

        async def rewrite(before: str, text: str) -> str | None:
            reserve = self.reservations.on_tier(permit.config, text)
            attempts = LedgerAttempts(meter, permit, reserve)
            told = await self.rooms.answerer.advise(
                advice.STANDALONE,
                advice.follow_up(before, text),
                permit.config,
                attempts,
                deadline=permit.deadline,
            )
            if attempts.pending is not None:  # a call of its own; the question begins anew
                await meter.next_attempt(attempts.pending, self.plan(text)(permit.config))
            return told[0] if len(told) == 1 else None

        text = await self.rooms.conversations.follow(
            permit, conversation_id, question.text, rewrite
        )
        return replace(question, text=text, rewritten=text != question.text)

    async def searched(
        self, permit: Permit, question: Question, meter: Meter, *, explain: bool = False
    ) -> Retrieved:
        """Return the evidence for a search; no model is asked."""
        reserve = self.reservations.on_tier(permit.config, question.text)
        steps = LedgerSteps(LedgerAttempts(meter, permit, reserve), self.embedding, None)
        return await self._found(permit, question, steps, explain=explain)

    async def _found(
        self, permit: Permit, question: Question, steps: LedgerSteps, *, explain: bool = False
    ) -> Retrieved:
        """Return the evidence, each step of the way to it in the ledger."""
        found = await self.embedding.retriever(steps.attempts.meter).retrieve(
            permit.tenant_id, retrieval_request(permit, question, explain=explain), steps
        )
        return self.rooms.watch.look(found, hold=permit.config.hold_suspicious)

    async def _answered(
        self, permit: Permit, question: Question, attempts: LedgerAttempts, tell: Tell
    ) -> tuple[QueryReply, Settlement]:
        meter = attempts.meter
        steps = LedgerSteps(attempts, self.embedding, self.rooms.answerer)
        found = await self._found(permit, question, steps)
        if found.steps:  # each is an attempt of its own, the last one still open
            steps.end()
        elif self.embedding.hosted:  # its call is one too
            attempts.pending = self.embedding.settlement("ok", meter)
        tell(Sources(found.sources))
        answered = await self.rooms.answerer.answer(
            question.text,
            found.sources,
            permit.config,
            attempts,
            deadline=permit.deadline,
            tell=tell,
        )
        settlement = attempts.last(answered.answer.outcome.value)
        told = metadata(permit, meter, settlement, found, answered, standalone=question.standalone)
        return query_reply(answered, told), settlement


def checked_question(text: str, narrowing: Narrowing = EVERYTHING) -> Question:
    """Return the question. Raises InvalidRequest when it is empty or too long."""
    if not text.strip():
        raise InvalidRequest("The question is empty.", field="query")
    if len(text) > MOST_QUESTION_CHARACTERS:
        raise InvalidRequest(
            f"A question has at most {MOST_QUESTION_CHARACTERS} characters.", field="query"
        )
    return Question(text, narrowing)


def retrieval_request(
    permit: Permit, question: Question, *, explain: bool = False
) -> RetrievalRequest:
    """Return what the retriever is asked for an admitted question or search."""
    return RetrievalRequest(
        question.text,
        permit.config,
        permit.corpus_version,
        permit.deadline,
        question.narrowing.filters,
        question.narrowing.as_of,
        explain,
    )
