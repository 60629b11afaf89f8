"""The values that rooms hand to one another: frozen, typed, named as in `docs/glossary.md`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from compliance_copilot.core.clock import Deadline, utc_now
from compliance_copilot.core.files import Section

TenantId = NewType("TenantId", str)


class ModelTier(StrEnum):
    """What a tenant orders; the price book maps a tier to the model that answers today."""

    GPT35 = "gpt-3.5-turbo"
    GPT4 = "gpt-4"
    CLAUDE = "claude"
    EXTRACTIVE = "extractive"


class RetrievalMode(StrEnum):
    """How evidence is looked for: dense, dense + BM25, or in several steps."""

    BASIC = "basic"
    HYBRID = "hybrid"
    AGENTIC = "agentic"


class Outcome(StrEnum):
    """What an answer amounts to. Failures are not outcomes: they are errors."""

    ANSWERED = "answered"
    PARTIAL = "partial"
    NO_EVIDENCE = "no_evidence"
    CONFLICTING_EVIDENCE = "conflicting_evidence"


class Operation(StrEnum):
    """What a ledger row is for."""

    QUERY = "query"
    SEARCH = "search"
    INGEST = "ingest"


class Scope(StrEnum):
    """What a key may do."""

    QUERY = "query"
    INGEST = "ingest"
    USAGE_READ = "usage:read"
    TENANT_ADMIN = "tenant:admin"
    PLATFORM_ADMIN = "platform:admin"


class Unsupported(StrEnum):
    """What becomes of a sentence without a checked quote."""

    DROP = "drop"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What a tenant may use. `None` means: no such limit."""

    max_queries_per_hour: int | None = 100
    max_tokens_per_query: int = 4096
    max_concurrent_requests: int | None = 5
    max_documents: int | None = 10_000
    max_bytes: int | None = None
    monthly_budget_usd: float | None = None
    requests_per_minute: int | None = 100


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A tenant's own key with a vendor, encrypted; opened for a call and never kept open."""

    tenant_id: TenantId
    provider: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EffectiveConfig:
    """What holds for one question after system, tenant and query were laid over one another."""

    model_tier: ModelTier = ModelTier.GPT35
    retrieval_mode: RetrievalMode = RetrievalMode.BASIC
    top_k: int = 5
    max_tokens: int = 4096
    temperature: float = 0.0
    min_evidence: float = 0.5
    fallback: tuple[ModelTier, ...] = (ModelTier.EXTRACTIVE,)
    cache: bool = True
    cache_seconds: int = 3600
    unsupported: Unsupported = Unsupported.DROP
    hold_suspicious: bool = False
    max_steps: int = 4
    answer_retention_days: int = 90
    document_retention_days: int | None = None
    legal_hold: str | None = None
    query_overrides: tuple[str, ...] = (
        "model_tier",
        "retrieval_mode",
        "top_k",
        "max_tokens",
        "temperature",
    )
    own_keys: tuple[SealedKey, ...] = field(default=(), repr=False)
    """The tenant's keys with vendors; no field of the cascade."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `tenant_id` is None for the operator (platform scope).

    `key_hash` lets admission look at the key once more, in its own round trip. `suspended` is as
    of the look that gave this value: who does not look afresh asks admission.
    """

    tenant_id: TenantId | None
    key_id: str
    name: str
    scopes: frozenset[Scope]
    key_hash: bytes | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Reservation:
    """Whom a request is going to ask first, and the most that it may cost."""

    provider: str | None
    model: str | None
    price_version: str
    micro_usd: int = 0
    unpriced: bool = False


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """An `Idempotency-Key` and the SHA-256 of the body that came with it."""

    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Permit:
    """An admitted request: its intent row is committed, its lease runs."""

    tenant_id: TenantId
    request_id: UUID
    operation: Operation
    config: EffectiveConfig
    limits: ResourceLimits
    reservation: Reservation
    corpus_version: int
    deadline: Deadline
    lease_seconds: float
    attempt: int = 1
    quota: int | None = None
    remaining: int | None = None
    reset_seconds: int | None = None
    settled: bool = False
    """Its answer was at hand, and admission has settled it, too: no lease runs."""
    admitted_at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True)
class Replay:
    """The stored reply of an `Idempotency-Key`: nothing is admitted and nothing charged."""

    reply: Mapping[str, Any]
    original_request_id: UUID


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of one stored version: `text == version_text[start:end]` (code points)."""

    id: UUID
    document_id: str
    version: int
    ordinal: int
    start: int
    end: int
    text: str
    title: str
    section: str | None = None
    page: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headings: tuple[str, ...] = ()
    reading: object = field(default=None, compare=False, repr=False)  # see `rag/reading.py`


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """A chunk with its rank score in 0..1 and the parts it was made of."""

    chunk: Chunk
    score: float
    dense: float | None = None
    sparse: float | None = None
    suspicious: bool = False
    """The text addresses a model: written like an attack, perhaps one."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A verbatim stretch of a source, as a generator claims it (not yet checked).

    `source` is the index of the source in the list that was handed to the generator.
    """

    source: int
    text: str


@dataclass(frozen=True, slots=True)
class DraftSentence:
    """One sentence of a generator, with the quotes it rests on."""

    text: str
    quotes: tuple[Quote, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider says that it used, in tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """The last thing a generator yields: what was used, and which model really answered."""

    usage: Usage
    provider_model: str
    response_id: str | None = None
    finish_reason: str = "stop"
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Citation:
    """A checked quote: `version_text[start:end] == quote` (code points of the stored version)."""

    marker: int
    source: int
    quote: str
    start: int
    end: int
    verified: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader is shown, and what it rests on."""

    text: str
    outcome: Outcome
    sources: Sequence[ScoredChunk]
    citations: Sequence[Citation]


@dataclass(frozen=True, slots=True)
class ReplyMetadata:
    """How a reply came about: names and units as in the HTTP contract."""

    tenant_id: TenantId
    request_id: UUID
    model: str
    provider_model: str | None
    tokens_used: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    latency_ms: float
    retrieval_mode: RetrievalMode
    cached: bool = False
    fallback: Mapping[str, Any] | None = None
    steps: Sequence[Mapping[str, Any]] = ()
    unsupported_sentences: int = 0
    held_sources: int = 0
    standalone_question: str | None = None
    quota: int | None = None
    remaining: int | None = None
    reset_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class QueryReply:
    """An answer with what it rests on."""

    answer: str
    outcome: Outcome
    sources: Sequence[ScoredChunk]
    citations: Sequence[Citation]
    metadata: ReplyMetadata
    written: bytes | None = field(default=None, compare=False, repr=False)
    """Its JSON as it was settled, so that what is sent is what is kept."""


@dataclass(frozen=True, slots=True)
class SearchReply:
    """Ranked sources without an answer; `explained` has an entry for each, or none."""

    results: Sequence[ScoredChunk]
    metadata: ReplyMetadata
    explained: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where a document was read from: its path there, and the SHA-256 of its bytes."""

    path: str
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A text that comes in. Without a `document_id` one is derived from the content; without
    `effective_from` it is in force at once.

    `sections` tell where its parts come from (a file's pages, sheets); else Markdown's headings do.
    """

    text: str
    document_id: str | None = None
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    effective_from: datetime | None = None
    sections: Sequence[Section] = ()
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class IngestedDocument:
    """What became of one document: `created`, `updated` or `unchanged`.

    `in_force` is False for a version that holds later, or only for a time that is over.
    `duplicate_of` names the document that had the same text before.
    """

    document_id: str
    version: int
    status: str
    chunks: int
    in_force: bool = True
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class IngestReply:
    """What became of one call."""

    tenant_id: TenantId
    request_id: UUID
    documents: Sequence[IngestedDocument]
    chunks_indexed: int


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Sums over a window of one tenant's ledger; an empty window gives zeros."""

    tenant_id: TenantId
    time_window_hours: float
    total_queries: int
    successful_queries: int
    avg_latency_ms: float
    total_requests: int
    successful_requests: int
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    unpriced_events: int
    estimated_events: int
    open_events: int
    cache_hits: int
    helpful_answers: int = 0
    wrong_answers: int = 0
