"""ComplianceCopilotSaaS: the order of the steps, and nothing else.

Each line is a step that a customer could name. Must not enter: vendors, SQL, HTTP.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from compliance_copilot.billing.ledger import UsageLedger
from compliance_copilot.billing.statements import Statements
from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.events import Done, Event, Tell, nobody
from compliance_copilot.core.replies import ingest_body
from compliance_copilot.core.vocabulary import (
    IngestReply,
    NewDocument,
    Operation,
    QueryReply,
    Replay,
    SearchReply,
    TenantId,
    UsageSummary,
)
from compliance_copilot.orchestrator.asking import Asking, Question, checked_question
from compliance_copilot.orchestrator.at_hand import AtHand
from compliance_copilot.orchestrator.caching import Caching
from compliance_copilot.orchestrator.embedding import Embedding
from compliance_copilot.orchestrator.moving import Moving
from compliance_copilot.orchestrator.reception import Reception
from compliance_copilot.orchestrator.replying import metadata
from compliance_copilot.orchestrator.reservations import Reservations
from compliance_copilot.orchestrator.rooms import NOBODY, Call, Rooms, Timeouts
from compliance_copilot.orchestrator.streaming import Streams
from compliance_copilot.rag.answers import AnswerStore
from compliance_copilot.rag.breaker import Breakers
from compliance_copilot.rag.conversations import Conversations
from compliance_copilot.rag.documents import DocumentInfo, DocumentStore
from compliance_copilot.rag.filter_language import EVERYTHING, Narrowing
from compliance_copilot.rag.quotas import Quotas
from compliance_copilot.rag.reindexing import Told
from compliance_copilot.rag.revising import Revision
from compliance_copilot.tenancy.config_manager import ConfigManager
from compliance_copilot.tenancy.context import TenantContext


class ComplianceCopilotSaaS:
    """The service: questions, searches and documents of many tenants, each in its own walls."""

    def __init__(self, rooms: Rooms, timeouts: Timeouts) -> None:
        self._rooms = rooms
        self._reception = Reception(rooms, timeouts)
        self._embedding = Embedding(rooms)
        self._moving = Moving(self._reception, self._embedding)
        self._asking = Asking(rooms, Reservations(rooms), self._embedding)
        self._caching = Caching(rooms, self._asking)
        self._streams = Streams(timeouts.drain_seconds)

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
    def conversations(self) -> Conversations:
        """The tenants' conversations."""
        return self._rooms.conversations

    @property
    def usage(self) -> UsageLedger:
        """The ledger, for reading."""
        return self._rooms.usage

    @property
    def statements(self) -> Statements:
        """The tenants' months, as an invoice has them."""
        return self._rooms.statements

    @property
    def breakers(self) -> Breakers:
        """Which models' providers are asked at present."""
        return self._rooms.answerer.breakers

    async def query(
        self,
        tenant_id: str,
        query_text: str,
        *,
        override_config: Mapping[str, Any] | None = None,
        narrowing: Narrowing = EVERYTHING,
        call: Call = NOBODY,
    ) -> QueryReply | Replay:
        """Answer a question from the tenant's documents, with checked quotes.

        `narrowing` is what `narrowed(filters, as_of=...)` gives.

        Raises InvalidRequest, UnknownTenant, LimitReached, BudgetExhausted, RetrievalUnavailable,
        ModelUnavailable, StoreUnavailable or DeadlineExceeded.
        """
        question = checked_question(query_text, narrowing)
        return await self._question(tenant_id, question, override_config, call, nobody)

    def stream(
        self,
        tenant_id: str,
        query_text: str,
        *,
        override_config: Mapping[str, Any] | None = None,
        narrowing: Narrowing = EVERYTHING,
        call: Call = NOBODY,
    ) -> AsyncGenerator[Event]:
        """Answer as `query` does, and yield the answer while it is made (`core/events.py`).

        Raises as `query` does; before the first event, or later when a generator breaks off after
        a part of its answer was shown. A reader who leaves loses no usage.
        """

        async def work(tell: Tell) -> None:
            question = checked_question(query_text, narrowing)
            reply = await self._question(tenant_id, question, override_config, call, tell)
            if isinstance(reply, Replay):
                tell(Done(reply))

        return self._streams.follow(work)

    async def _question(
        self,
        tenant_id: str,
        question: Question,
        overrides: Mapping[str, Any] | None,
        call: Call,
        tell: Tell,
    ) -> QueryReply | Replay:
        tenant = TenantId(tenant_id)
        async with self._reception.entered(tenant, Operation.QUERY):
            plan = self._asking.plan(question.text)
            ask = self._reception.ask(Operation.QUERY, overrides, call, plan)
            admission = self._rooms.admission
            with AtHand(self._caching, question, call) as hand:
                draft = admission.drafted(tenant, ask)
                ready = await hand.ready(draft)
                permit = await admission.admit(tenant, replace(ask, draft=draft, ready=ready))
                if isinstance(permit, Replay):
                    return permit
                if permit.settled:
                    return hand.given(permit, tell)
            async with self._reception.metered(permit) as meter:
                if call.conversation_id:
                    question = await self._asking.standing(
                        permit, question, call.conversation_id, meter
                    )
                fresh = call.fresh
                return await self._caching.answer(permit, question, meter, tell, fresh=fresh)

    async def search(
        self,
        tenant_id: str,
        query_text: str,
        *,
        override_config: Mapping[str, Any] | None = None,
        narrowing: Narrowing = EVERYTHING,
        explain: bool = False,
        call: Call = NOBODY,
    ) -> SearchReply:
        """Return ranked sources without an answer. Raises as `query` does."""
        question = checked_question(query_text, narrowing)
        tenant = TenantId(tenant_id)
        async with self._reception.entered(tenant, Operation.SEARCH):
            ask = self._reception.ask(
                Operation.SEARCH, override_config, call, self._embedding.for_question(question.text)
            )
            permit = await self._rooms.admission.admit(tenant, ask)
            if isinstance(permit, Replay):
                raise InvalidRequest("A search takes no Idempotency-Key.", field="Idempotency-Key")
            async with self._reception.metered(permit) as meter:
                found = await self._asking.searched(permit, question, meter, explain=explain)
                settlement = self._embedding.settlement("ok", meter)
                await meter.settle(settlement)
                told = metadata(permit, meter, settlement, found)
                return SearchReply(found.sources, told, found.explained)

    async def ingest(
        self,
        tenant_id: str,
        documents: Sequence[NewDocument],
        *,
        call: Call = NOBODY,
    ) -> IngestReply | Replay:
        """Store documents, all of them or none; the same content again is no work.

        Raises InvalidRequest naming the document, LimitReached, StoreUnavailable or
        DeadlineExceeded.
        """
        tenant = TenantId(tenant_id)
        async with self._reception.entered(tenant, Operation.INGEST):
            plan = self._embedding.for_texts([document.text for document in documents])
            ask = self._reception.ask(Operation.INGEST, None, call, plan)
            permit = await self._rooms.admission.admit(tenant, ask)
            if isinstance(permit, Replay):
                return permit
            async with self._reception.metered(permit) as meter:
                stored = await self._embedding.ingestion(meter).ingest(
                    tenant,
                    documents,
                    quotas=Quotas(permit.limits.max_documents, permit.limits.max_bytes),
                    deadline=permit.deadline,
                )
                indexed = sum(d.chunks for d in stored if d.status != "unchanged")
                reply = IngestReply(tenant, permit.request_id, stored, indexed)
                settlement = self._embedding.settlement("ok", meter)
                await meter.settle(settlement, reply=ingest_body(reply))
                return reply

    async def revise(self, tenant_id: str, document_id: str, revision: Revision) -> DocumentInfo:
        """Give a document another title or metadata. Raises NotFound, LimitReached."""
        limits = (await self.limits(tenant_id))["limits"]
        return await self.documents.revise(
            TenantId(tenant_id), document_id, revision, quotas=Quotas(max_bytes=limits["max_bytes"])
        )

    async def reindex(self, tenant_id: str, told: Told) -> bool:
        """Move a tenant's vectors to the configured embedder and store; False: they are there.

        Raises ModelUnavailable, BudgetExhausted, RetrievalUnavailable or StoreUnavailable;
        calling again goes on where it was.
        """
        tenant = TenantId(tenant_id)
        with TenantContext.bind(tenant):
            return await self._rooms.reindexing.move(tenant, self._moving.embed, told)

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

    async def aclose(self) -> None:
        """Wait for streams whose readers have left."""
        await self._streams.close()
