"""Bodies that come in: strict types, no unknown fields, bounded in every direction."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from compliance_copilot.core.vocabulary import ModelTier, RetrievalMode, Unsupported
from compliance_copilot.rag.filter_language import Filters, Instant, Narrowing

LONGEST_QUERY = 8_000
MOST_DOCUMENTS = 1_000
MOST_FIELDS = 50
MOST_FILES = 50_000
LARGEST_TEXT_BYTES = 2_000_000
LARGEST_METADATA = 32_000
DEEPEST_METADATA = 8
_LARGEST_INTEGER = 2**53 - 1
_NOT_CONFIGURED = {"tenant_id", "query", "conversation_id", "filters", "as_of", "explain", "stream"}


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _visible(schema: dict[str, Any]) -> None:
    # For readers and fuzzers: `not_blank` and the reader of bodies enforce it.
    schema["pattern"] = r"^[^\x00]*[^\s\x00-\x1f][^\x00]*$"


def absent(**constraints: Any) -> Any:
    """Return a field that may be left out, but not be null."""
    return Field(default=None, json_schema_extra=_without_default, **constraints)


def not_blank(text: str) -> str:
    """Refuse a text without a single visible character."""
    if not text.strip():
        raise ValueError("It must not be empty or whitespace only.")
    return text


def _document_id(text: str) -> str:
    if not text.isprintable() or "/" in text or text != text.strip() or text in (".", ".."):
        raise ValueError("It has 1-255 printable characters, no '/', and no space at either end.")
    return text


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("It has printable characters only.")
    return text


def _printable_or_no(text: str) -> str:
    return _printable(text) if text else text


def _flat_enough(metadata: dict[str, Any]) -> dict[str, Any]:
    """Refuse metadata that is nested too deep, too long, or has numbers JSON cannot carry."""
    waiting: list[tuple[int, Any]] = [(1, metadata)]
    size = 0
    while waiting:
        depth, value = waiting.pop()
        size += _size(value)
        if size > LARGEST_METADATA:
            raise ValueError(f"It may have {LARGEST_METADATA} characters.")
        if isinstance(value, dict | list):
            if depth > DEEPEST_METADATA:
                raise ValueError(f"It may be nested {DEEPEST_METADATA} levels deep.")
            inner = value.values() if isinstance(value, dict) else value
            waiting.extend((depth + 1, item) for item in inner)
    return metadata


def _size(value: Any) -> int:
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        raise ValueError(f"An integer may be at most {_LARGEST_INTEGER}.")
    if isinstance(value, str | list):
        return len(value) + 2
    return 2 + sum(len(name) + 4 for name in value) if isinstance(value, dict) else 8


def _whole(value: Any) -> Any:
    """Read 5.0 as 5: to JSON they are one number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Name = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=200, json_schema_extra=_visible),
    AfterValidator(not_blank),
]
TopK = Annotated[int, Field(strict=True, ge=1, le=100), BeforeValidator(_whole)]
MaxTokens = Annotated[int, Field(strict=True, ge=1, le=1_000_000), BeforeValidator(_whole)]
Temperature = Annotated[float, Field(strict=True, ge=0.0, le=2.0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=2_147_483_647), BeforeValidator(_whole)]
Bytes = Annotated[int, Field(strict=True, ge=0, le=_LARGEST_INTEGER), BeforeValidator(_whole)]
ConversationId = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]
Metadata = Annotated[dict[str, Any], AfterValidator(_flat_enough)]
SourcePath = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=1_000, description="Where it was read from."),
    AfterValidator(_printable),
]
Prefix = Annotated[str, Field(strict=True, max_length=1_000), AfterValidator(_printable_or_no)]
Sha256 = Annotated[str, Field(strict=True, pattern="^[0-9a-f]{64}$")]
TenantName = Annotated[str, Field(strict=True, max_length=255)]


class Body(BaseModel):
    """What every body has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, given: Any) -> Any:
        # Each unknown field is an error of its own: a million of them would cost seconds.
        if isinstance(given, dict) and len(given) > MOST_FIELDS:
            raise ValueError(f"It may have {MOST_FIELDS} fields.")
        return given


class _Question(Body):
    """A question, what it is put to, and what it overrides of the tenant's configuration."""

    tenant_id: TenantName | None = Field(
        default=None, description="May be left out: the key names the tenant."
    )
    query: Annotated[str, AfterValidator(not_blank)] = Field(
        strict=True, min_length=1, max_length=LONGEST_QUERY, json_schema_extra=_visible
    )
    model_tier: ModelTier | None = None
    retrieval_mode: RetrievalMode | None = None
    top_k: TopK | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    filters: Filters | None = Field(
        default=None,
        description="Only documents of which this holds; docs/filters.md has the language.",
    )
    as_of: Instant | None = Field(
        default=None, description="Answer from the versions in force at this instant."
    )

    @property
    def narrowing(self) -> Narrowing:
        """Return what of the corpus the question is put to."""
        return Narrowing(self.filters.tree() if self.filters else None, self.as_of)

    def overrides(self) -> dict[str, Any]:
        """Return the configuration fields that this question sets."""
        given = self.model_dump(exclude_none=True, exclude=_NOT_CONFIGURED)
        return dict(given)


class SearchRequest(_Question):
    """A question whose sources are wanted, and no answer."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"query": "How is customer data encrypted?", "top_k": 5}}
    )

    explain: Flag = Field(
        default=False, description="Tell of each source what its score is made of."
    )


class QueryRequest(_Question):
    """A question to be answered from the tenant's documents."""

    model_config = SearchRequest.model_config

    stream: Flag = Field(default=False, description="Answer by server-sent events.")
    conversation_id: ConversationId | None = Field(
        default=None, description="Of your choice; a follow-up leans on the question before it."
    )


class DocumentBody(Body):
    """A document that comes in; without a `document_id` one is derived from its content."""

    text: Annotated[str, AfterValidator(not_blank)] = Field(
        strict=True, min_length=1, json_schema_extra=_visible, description="At most 2 MB of UTF-8."
    )
    document_id: Annotated[str, AfterValidator(_document_id)] | None = Field(
        default=None, strict=True, min_length=1, max_length=255
    )
    title: Annotated[str, AfterValidator(not_blank)] | None = Field(
        default=None, strict=True, min_length=1, max_length=500
    )
    metadata: Metadata | None = Field(
        default=None, description="A JSON object, at most 8 levels and 32,000 characters."
    )
    effective_from: Instant | None = Field(
        default=None, description="From when it is in force; without it at once."
    )
    source_path: SourcePath | None = None
    source_hash: Sha256 | None = Field(
        default=None, description="SHA-256 of the bytes at `source_path`, in hex."
    )


class IngestRequest(Body):
    """Documents that come in together: all of them, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "documents": [
                    {
                        "document_id": "data-protection-policy",
                        "title": "Data Protection Policy",
                        "text": "# Data Protection Policy\n\n## Encryption\n\n"
                        "Customer data at rest is encrypted with AES-256.",
                        "metadata": {"category": "data_protection"},
                    }
                ]
            }
        }
    )

    tenant_id: TenantName | None = Field(
        default=None, description="May be left out: the key names the tenant."
    )
    documents: Annotated[
        list[DocumentBody], Field(min_length=1, max_length=MOST_DOCUMENTS, fail_fast=True)
    ]


class UploadFields(Body):
    """What a form tells beside its files; it holds for all of them."""

    effective_from: Instant | None = None


class FeedbackBody(Body):
    """What a reader thinks of an answer."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"verdict": "wrong", "comment": "Replaced in October."}}
    )

    verdict: Literal["helpful", "wrong"]
    comment: Annotated[str, AfterValidator(not_blank)] | None = Field(
        default=None, strict=True, min_length=1, max_length=2_000
    )


class DocumentPatch(Body):
    """What is changed about a document from now on: its next version, with the same text."""

    model_config = ConfigDict(json_schema_extra={"example": {"title": "Retention of records"}})

    title: Annotated[str, Field(strict=True, max_length=500), AfterValidator(not_blank)] = absent()
    metadata: Metadata = absent()


class FileBody(Body):
    """A file as it is now."""

    path: SourcePath
    hash: Sha256 = Field(description="SHA-256 of its bytes, in hex.")


class SyncRequest(Body):
    """A folder as it is now, held against what was read from it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"files": [{"path": "policies/retention.md", "hash": "ab" * 32}]}
        }
    )

    files: Annotated[list[FileBody], Field(max_length=MOST_FILES, fail_fast=True)]
    prefix: Prefix = Field(
        default="", description="Only documents whose path starts so can be gone."
    )
    delete: Flag = Field(default=False, description="Erase what is gone, up to 100 a call.")


class ConfigBody(Body):
    """Configuration values to set; what is not named stays as it is, and null takes an own value
    away, so that the layer below holds again.
    """

    model_config = ConfigDict(
        json_schema_extra={"example": {"retrieval_mode": "hybrid", "top_k": 8}}
    )

    model_tier: ModelTier | None = None
    retrieval_mode: RetrievalMode | None = None
    top_k: TopK | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    min_evidence: Share | None = None
    fallback: Annotated[list[ModelTier], Field(max_length=4)] | None = None
    cache: Flag | None = None
    cache_seconds: (
        Annotated[int, Field(strict=True, ge=1, le=30 * 86_400), BeforeValidator(_whole)] | None
    ) = None
    unsupported: Unsupported | None = None
    hold_suspicious: Flag | None = None
    max_steps: Annotated[int, Field(strict=True, ge=1, le=10), BeforeValidator(_whole)] | None = (
        None
    )
    document_retention_days: (
        Annotated[int, Field(strict=True, ge=1, le=36_500), BeforeValidator(_whole)] | None
    ) = Field(default=None, description="Days after its last change a document is erased.")
    legal_hold: (
        Annotated[str, Field(strict=True, max_length=500), AfterValidator(not_blank)] | None
    ) = Field(default=None, description="While it has a reason, nothing is erased.")
    answer_retention_days: (
        Annotated[int, Field(strict=True, ge=0, le=3650), BeforeValidator(_whole)] | None
    ) = None
    query_overrides: Annotated[list[Name], Field(max_length=20)] | None = None

    def values(self) -> dict[str, Any]:
        """Return the named values."""
        return self.model_dump(exclude_unset=True)


class LimitsBody(Body):
    """Limits to set; null lifts a limit that can be lifted."""

    max_queries_per_hour: Count | None = None
    max_tokens_per_query: MaxTokens = absent()
    max_concurrent_requests: Count | None = None
    max_documents: Count | None = None
    max_bytes: Bytes | None = Field(
        default=None, description="Of UTF-8 text, in all versions of all documents."
    )
    monthly_budget_usd: (
        Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)] | None
    ) = None
    requests_per_minute: Count | None = None


class NewTenantBody(Body):
    """A tenant to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "tenant_id": "delta_corp",
                "name": "Delta Corporation",
                "config": {"model_tier": "gpt-4"},
                "limits": {"max_queries_per_hour": 500},
            }
        }
    )

    tenant_id: Annotated[str, Field(strict=True, pattern=r"^[a-z0-9][a-z0-9_-]{1,62}$")]
    name: Name
    config: ConfigBody = absent()
    limits: LimitsBody = absent()


class TenantPatch(Body):
    """What is changed about a tenant."""

    model_config = ConfigDict(json_schema_extra={"example": {"limits": {"max_documents": 20000}}})

    name: Name = absent()
    status: Annotated[str, Field(strict=True, pattern="^(active|suspended)$")] = absent()
    limits: LimitsBody = absent()
