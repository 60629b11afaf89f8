"""What the orchestrator is made of, and what is handed to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from compliance_copilot.billing.ledger import UsageLedger
from compliance_copilot.billing.metering import Metering
from compliance_copilot.billing.statements import Statements
from compliance_copilot.core.vocabulary import IdempotencyClaim, Operation, Principal, TenantId
from compliance_copilot.rag.answers import AnswerStore
from compliance_copilot.rag.conversations import Conversations
from compliance_copilot.rag.courtesy import Courtesy
from compliance_copilot.rag.documents import DocumentStore
from compliance_copilot.rag.generation import Answerer
from compliance_copilot.rag.holding import Watch
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.query_cache import QueryCache
from compliance_copilot.rag.reindexing import Reindexing
from compliance_copilot.rag.retrieval import Retriever
from compliance_copilot.tenancy.admission import Admission
from compliance_copilot.tenancy.config_manager import ConfigManager


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
    answers: AnswerStore
    conversations: Conversations
    cache: QueryCache
    watch: Watch
    ingestion: Ingestion
    courtesy: Courtesy
    reindexing: Reindexing
    documents: DocumentStore
    usage: UsageLedger
    statements: Statements
    config: ConfigManager
    skipped: Callable[[Operation], str | None]
    mapped: Callable[[TenantId], int | None]
    """The version of a tenant's corpus that this process searches without asking anybody."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a request may take, and a stream whose reader has left."""

    query_seconds: float = 30.0
    ingest_seconds: float = 300.0
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, and under which ids; everything may be absent in library use."""

    principal: Principal | None = None
    idempotency: IdempotencyClaim | None = None
    request_id: UUID | None = None
    fresh: bool = False
    """Go round the query cache in both directions (`Cache-Control: no-store`)."""
    conversation_id: str | None = None
    since_seconds: float | None = None
    """When, by the monotonic clock, its time began; None: with its admission."""


NOBODY = Call()
"""A call of the library without a key."""
