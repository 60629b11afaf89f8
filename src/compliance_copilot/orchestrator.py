"""ComplianceCopilotSaaS: the order of the steps, and nothing else.

Each line is a step that a customer could name. Must not enter: vendors, SQL, HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from compliance_copilot.billing.ledger import UsageLedger
from compliance_copilot.billing.metering import Meter, Metering, Settlement
from compliance_copilot.billing.statements import Statements
from compliance_copilot.core.errors import DeadlineExceeded, InvalidRequest, NotInitialized
from compliance_copilot.core.replies import ingest_body, query_body
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    GenerationEnd,
    IdempotencyClaim,
    IngestReply,
    ModelTier,
    NewDocument,
    Operation,
    Permit,
    Principal,
    QueryReply,
    Replay,
    ReplyMetadata,
    Reservation,
    SearchReply,
    TenantId,
    Usage,
    UsageSummary,
)
from compliance_copilot.rag.answers import AnswerStore
from compliance_copilot.rag.documents import DocumentStore
from compliance_copilot.rag.generation import Answered, Answerer, Attempt
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.retrieval import RetrievalRequest, Retriever
from compliance_copilot.tenancy.admission import Admission, Ask, Planner
from compliance_copilot.tenancy.audit import AuditLog
from compliance_copilot.tenancy.config_manager import ConfigManager
from compliance_copilot.tenancy.context import TenantContext
from compliance_copilot.tenancy.keys import KeyRing
from compliance_copilot.tenancy.tenants import TenantStore

MOST_QUESTION_CHARACTERS = 8_000
_CHARACTERS_PER_SOURCE = 4_000  # the longest chunk with its headings
_PROMPT_OVERHEAD_TOKENS = 2_000


@dataclass(frozen=True, slots=True)
class Component:
    """One part of the service: `ready`, `limited` or `down`, and why."""

    status: str
    detail: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """The state of the service and of its parts."""

    status: str
    components: Mapping[str, Component]


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the orchestrator leads: one of each, handed in by the wiring."""

    admission: Admission
    metering: Metering
    retriever: Retriever
    answerer: Answerer
    ingestion: Ingestion
    documents: DocumentStore
    answers: AnswerStore
    usage: UsageLedger
    statements: Statements
    config: ConfigManager
    skipped: Callable[[Operation], str | None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a request may take."""

    query_seconds: float = 30.0
    ingest_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and under which ids; everything may be absent in library use."""

    principal: Principal | None = None
    idempotency: IdempotencyClaim | None = None
    request_id: UUID | None = None


class ComplianceCopilotSaaS:
    """The service: questions, searches and documents of many tenants, each in its own walls."""

    def __init__(self, rooms: Rooms, timeouts: Timeouts) -> None:
        self._rooms = rooms
        self._timeouts = timeouts

    @property
    def config_mgr(self) -> ConfigManager:
        """The configuration cascade."""
        return self._rooms.config

    @property
    def documents(self) -> DocumentStore:
        """The tenants' documents."""
        return self._rooms.documents

    @property
    def answers(self) -> AnswerStore:
        """The tenants' kept answers."""
        return self._rooms.answers

    @property
    def usage(self) -> UsageLedger:
        """The ledger, for reading."""
        return self._rooms.usage

    @property
    def statements(self) -> Statements:
        """The tenants' months, as an invoice has them."""
        return self._rooms.statements

    async def query(
        self,
        tenant_id: str,
        query_text: str,
        *,
        override_config: Mapping[str, Any] | None = None,
        call: Call = Call(),
    ) -> QueryReply | Replay:
        """Answer a question from the tenant's documents, with checked quotes.

        Raises InvalidRequest, UnknownTenant, LimitReached, BudgetExhausted, RetrievalUnavailable,
        ModelUnavailable, StoreUnavailable or DeadlineExceeded.
        """
        question = _checked_question(query_text)
        tenant = TenantId(tenant_id)
        async with self._entered(tenant, Operation.QUERY):
            ask = self._ask(Operation.QUERY, override_config, call, self._plan(question))
            permit = await self._rooms.admission.admit(tenant, ask)
            if isinstance(permit, Replay):
                return permit
            async with self._metered(permit) as meter:
                found = await self._rooms.retriever.retrieve(tenant, _retrieval(permit, question))
                attempts = _Attempts(meter, self._reservation_on(permit.config, question))
                answered = await self._rooms.answerer.answer(
                    question, found.sources, permit.config, attempts, deadline=permit.deadline
                )
                settlement = _settlement(answered.attempt, answered.answer.outcome.value)
                reply = _query_reply(permit, answered, meter, settlement)
                await meter.settle(settlement, reply=query_body(reply))
                return reply

    async def search(
        self,
        tenant_id: str,
        query_text: str,
        *,
        override_config: Mapping[str, Any] | None = None,
        call: Call = Call(),
    ) -> SearchReply:
        """Return ranked sources without an answer. Raises as `query` does."""
        question = _checked_question(query_text)
        tenant = TenantId(tenant_id)
        async with self._entered(tenant, Operation.SEARCH):
            ask = self._ask(Operation.SEARCH, override_config, call, self._plan_local)
            permit = await self._rooms.admission.admit(tenant, ask)
            if isinstance(permit, Replay):
                raise InvalidRequest("A search takes no Idempotency-Key.", field="Idempotency-Key")
            async with self._metered(permit) as meter:
                found = await self._rooms.retriever.retrieve(tenant, _retrieval(permit, question))
                settlement = self._local_settlement("ok")
                await meter.settle(settlement)
                return SearchReply(found.sources, _metadata(permit, meter, settlement))

    async def ingest(
        self,
        tenant_id: str,
        documents: Sequence[NewDocument],
        *,
        call: Call = Call(),
    ) -> IngestReply | Replay:
        """Store documents, all of them or none; the same content again is no work.

        Raises InvalidRequest naming the document, LimitReached, StoreUnavailable or
        DeadlineExceeded.
        """
        tenant = TenantId(tenant_id)
        async with self._entered(tenant, Operation.INGEST):
            ask = self._ask(Operation.INGEST, None, call, self._plan_local)
            permit = await self._rooms.admission.admit(tenant, ask)
            if isinstance(permit, Replay):
                return permit
            async with self._metered(permit) as meter:
                stored = await self._rooms.ingestion.ingest(
                    tenant,
                    documents,
                    max_documents=permit.limits.max_documents,
                    deadline=permit.deadline,
                )
                indexed = sum(d.chunks for d in stored if d.status != "unchanged")
                reply = IngestReply(tenant, permit.request_id, stored, indexed)
                await meter.settle(self._local_settlement("ok"), reply=ingest_body(reply))
                return reply

    async def metrics(self, tenant_id: str, hours: float = 24.0) -> UsageSummary:
        """Return what the ledger says about the last `hours`."""
        tenant = TenantId(tenant_id)
        await self._rooms.config.finish_writes()
        with TenantContext.bind(tenant):
            return await self._rooms.usage.summary(tenant, hours)

    async def limits(self, tenant_id: str) -> Mapping[str, Any]:
        """Return the tenant's limits with the use so far. Raises UnknownTenant."""
        await self._rooms.config.finish_writes()
        return await self._rooms.admission.limits(TenantId(tenant_id))

    @asynccontextmanager
    async def _entered(self, tenant_id: TenantId, operation: Operation) -> AsyncIterator[None]:
        reason = self._rooms.skipped(operation)
        if reason:
            raise NotInitialized(reason)
        await self._rooms.config.finish_writes()
        with TenantContext.bind(tenant_id):
            yield

    @asynccontextmanager
    async def _metered(self, permit: Permit) -> AsyncIterator[Meter]:
        """Run the work inside the deadline; whatever happens, the row is settled."""
        TenantContext.verify(permit.tenant_id)
        async with self._rooms.metering.request(permit) as meter:
            try:
                async with asyncio.timeout(permit.deadline.remaining_seconds()):
                    yield meter
            except TimeoutError as error:
                raise DeadlineExceeded("The time for this request is over.") from error

    def _ask(
        self,
        operation: Operation,
        overrides: Mapping[str, Any] | None,
        call: Call,
        plan: Planner,
    ) -> Ask:
        ingesting = operation is Operation.INGEST
        return Ask(
            operation=operation,
            plan=plan,
            timeout_seconds=(
                self._timeouts.ingest_seconds if ingesting else self._timeouts.query_seconds
            ),
            overrides=overrides or {},
            principal=call.principal,
            idempotency=call.idempotency,
            request_id=call.request_id,
        )

    def _plan(self, question: str) -> Planner:
        def plan(config: EffectiveConfig) -> Reservation:
            tier = self._rooms.answerer.chain(config)[0]
            return self._reservation_on(config, question)(tier)

        return plan

    def _reservation_on(
        self, config: EffectiveConfig, question: str
    ) -> Callable[[ModelTier], Reservation]:
        # A token is at least one byte, so characters times four bound the tokens of a prompt.
        sources = config.top_k * _CHARACTERS_PER_SOURCE
        most_input = len(question.encode()) + sources + _PROMPT_OVERHEAD_TOKENS

        def reserve(tier: ModelTier) -> Reservation:
            return self._rooms.metering.prices.reservation(
                tier, most_input_tokens=most_input, most_output_tokens=config.max_tokens
            )

        return reserve

    def _plan_local(self, _config: EffectiveConfig) -> Reservation:
        embedder = self._rooms.retriever.embedder
        return Reservation(embedder.provider, embedder.name, self._rooms.metering.prices.version)

    def _local_settlement(self, outcome: str) -> Settlement:
        embedder = self._rooms.retriever.embedder
        return Settlement(outcome, provider=embedder.provider, model=embedder.name)


@dataclass(frozen=True, slots=True)
class _Attempts:
    """The chain's view of the meter."""

    meter: Meter
    reserve: Callable[[ModelTier], Reservation]

    def sent(self) -> None:
        self.meter.sent = True

    async def move_on(self, ended: Attempt, tier: ModelTier) -> None:
        await self.meter.next_attempt(
            _settlement(ended, ended.error or "failed"), self.reserve(tier)
        )


@dataclass(frozen=True, slots=True)
class Service:
    """Everything the gateway and the CLI serve."""

    copilot: ComplianceCopilotSaaS
    keys: KeyRing
    tenants: TenantStore
    config: ConfigManager
    audit: AuditLog
    status: Callable[[], Awaitable[Readiness]]
    skipped: Callable[[Operation], str | None]


def _checked_question(text: str) -> str:
    if not text.strip():
        raise InvalidRequest("The question is empty.", field="query")
    if len(text) > MOST_QUESTION_CHARACTERS:
        raise InvalidRequest(
            f"A question has at most {MOST_QUESTION_CHARACTERS} characters.", field="query"
        )
    return text


def _retrieval(permit: Permit, question: str) -> RetrievalRequest:
    return RetrievalRequest(question, permit.config, permit.corpus_version, permit.deadline)


def _settlement(attempt: Attempt, outcome: str) -> Settlement:
    end = attempt.end or GenerationEnd(Usage(), attempt.model)
    return Settlement(
        outcome,
        provider=attempt.provider,
        model=attempt.model,
        provider_model=end.provider_model,
        response_id=end.response_id,
        usage=end.usage,
        estimated=end.estimated,
    )


def _query_reply(
    permit: Permit, answered: Answered, meter: Meter, settlement: Settlement
) -> QueryReply:
    answer = answered.answer
    metadata = _metadata(permit, meter, settlement, answered)
    return QueryReply(answer.text, answer.outcome, answer.sources, answer.citations, metadata)


def _metadata(
    permit: Permit, meter: Meter, settlement: Settlement, answered: Answered | None = None
) -> ReplyMetadata:
    usage = meter.usage if meter.settled else meter.usage_with(settlement)
    cost = meter.cost_micro_usd + (0 if meter.settled else meter.cost_of(settlement))
    return ReplyMetadata(
        tenant_id=permit.tenant_id,
        request_id=permit.request_id,
        model=answered.attempt.tier.value if answered else settlement.model or "",
        provider_model=settlement.provider_model,
        tokens_used=usage.input_tokens + usage.output_tokens,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=cost / 1_000_000,
        latency_ms=meter.elapsed_ms,
        retrieval_mode=permit.config.retrieval_mode,
        fallback=answered.fallback if answered else None,
        unsupported_sentences=answered.unsupported_sentences if answered else 0,
        quota=permit.quota,
        remaining=permit.remaining,
        reset_seconds=permit.reset_seconds,
    )
