"""Bodies that go out, as OpenAPI describes them. Replies are not validated against them at run
time; the tests do that.
"""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from compliance_copilot.core.vocabulary import Outcome, RetrievalMode

_SOURCE: dict[str, JsonValue] = {
    "id": 0,
    "score": 0.93,
    "document_id": "data-protection-policy",
    "version": 2,
    "title": "Data Protection Policy",
    "section": "4.2 Encryption",
    "page": None,
    "start": 812,
    "end": 860,
    "text": "Customer data at rest is encrypted with AES-256.",
    "suspicious": False,
    "metadata": {"category": "data_protection"},
}
_METADATA: dict[str, JsonValue] = {
    "tenant_id": "acme_corp",
    "request_id": "0199f1a2-7c3e-7d4b-9a55-2f6b8c1d0e11",
    "model": "gpt-4",
    "provider_model": "gpt-4o-2024-08-06",
    "tokens_used": 250,
    "input_tokens": 200,
    "output_tokens": 50,
    "cost_usd": 0.0042,
    "latency_ms": 1800.0,
    "retrieval_mode": "hybrid",
    "cached": False,
    "fallback": None,
}


class Problem(BaseModel):
    """What went wrong (RFC 9457); facts such as `limit` or `field` stand beside it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:compliance-copilot:problem:invalid_request",
                "code": "invalid_request",
                "title": "A field cannot be used",
                "status": 422,
                "detail": "top_k: Input should be less than or equal to 100",
                "request_id": "0199f1a2-7c3e-7d4b-9a55-2f6b8c1d0e11",
                "field": "top_k",
            }
        },
    )

    type: str
    code: str
    title: str
    status: int
    detail: str
    request_id: str


class Skipped(BaseModel):
    """Nothing was done and nothing billed: a named provider has no key."""

    skipped: Literal[True]
    reason: str


class Source(BaseModel):
    """A stretch of a stored version: offsets are Unicode code points."""

    id: int
    score: float
    document_id: str
    version: int
    title: str
    section: str | None
    page: int | None
    start: int
    end: int
    text: str
    suspicious: bool = Field(description="Its text addresses a model: read it with care.")
    metadata: dict[str, Any]


class ScoreParts(BaseModel):
    """What a source's score is made of; a part that played no role is null."""

    path: str = Field(description="Who found it: `hot` (mapped file), `sql` or `pinecone`.")
    dense: float | None = Field(description="Cosine, where among the best of that list.")
    bm25: float | None = Field(description="BM25, where among the best of that list.")
    fusion: float | None
    ranker: float | None
    matched_terms: list[str] = Field(description="Stems of the question that the source has.")
    filters: dict[str, Any] | None = Field(description="The filter that was applied.")


class FoundSource(Source):
    """A source of a search; `explain` is there when it was asked for."""

    explain: ScoreParts | None = None


class CitationBody(BaseModel):
    """A quote that stands in the source, checked."""

    marker: int
    source: int
    quote: str
    start: int
    end: int
    verified: bool


class ReplyMetadataBody(BaseModel):
    """How a reply came about."""

    tenant_id: str
    request_id: UUID
    model: str
    provider_model: str | None
    tokens_used: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    latency_ms: float
    retrieval_mode: RetrievalMode
    cached: bool
    fallback: dict[str, Any] | None
    steps: list[dict[str, Any]] = Field(default_factory=list)
    unsupported_sentences: int = 0
    held_sources: int = 0
    standalone_question: str | None = None


class QueryReplyBody(BaseModel):
    """An answer with what it rests on."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "answer": "Customer data at rest is encrypted with AES-256 [1].",
                "outcome": "answered",
                "sources": [_SOURCE],
                "citations": [
                    {
                        "marker": 1,
                        "source": 0,
                        "quote": "encrypted with AES-256",
                        "start": 837,
                        "end": 859,
                        "verified": True,
                    }
                ],
                "content_hash": "9f2c" * 16,
                "metadata": _METADATA,
            }
        }
    )

    answer: str
    outcome: Outcome
    sources: list[Source]
    citations: list[CitationBody]
    content_hash: str = Field(
        description="SHA-256 of answer, outcome, sources and citations; see docs/answers.md."
    )
    metadata: ReplyMetadataBody


class SearchReplyBody(BaseModel):
    """Ranked sources without an answer."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"results": [_SOURCE], "metadata": _METADATA}}
    )

    results: list[FoundSource]
    metadata: ReplyMetadataBody


class IngestedDocumentBody(BaseModel):
    """What became of one document."""

    document_id: str
    version: int
    status: Literal["created", "updated", "unchanged"]
    chunks: int
    in_force: bool
    duplicate_of: str | None


class IngestReplyBody(BaseModel):
    """What became of one call."""

    tenant_id: str
    documents: list[IngestedDocumentBody]
    chunks_indexed: int
    metadata: dict[str, Any]


class Costs(BaseModel):
    """Sums of the ledger; money in USD."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    estimated_llm_cost: float
    cost_micro_usd: int
    total_requests: int
    success_rate: float


class UsageSummaryBody(BaseModel):
    """A tenant's use in a window."""

    tenant_id: str
    time_window_hours: float
    total_queries: int
    successful_queries: int
    avg_latency_ms: float
    costs: Costs
    cache_hits: int
    feedback: dict[str, int]
    unpriced_events: int
    estimated_events: int
    open_events: int
