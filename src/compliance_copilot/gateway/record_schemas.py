"""Records that go out (documents, ledger rows, tenants, keys, configuration, health), as OpenAPI
describes them.
"""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from compliance_copilot.core.vocabulary import Scope


class DocumentInfoBody(BaseModel):
    """A document's current version."""

    document_id: str
    title: str
    metadata: dict[str, Any]
    version: int
    chunks: int
    created_at: datetime
    updated_at: datetime
    source_path: str | None


class GoneBody(BaseModel):
    """A document whose file is gone; with the erasure that was begun for it."""

    document_id: str
    path: str
    erasure_id: UUID | None


class SyncReply(BaseModel):
    """Which files are wanted, how many are as they were, which documents have none any more."""

    wanted: list[str]
    unchanged: int
    gone: list[GoneBody]


class ProviderKeyReply(BaseModel):
    """What is told about a tenant's key with a vendor."""

    provider: Literal["openai", "anthropic"]
    last4: str
    set_by: str
    set_at: datetime


class DocumentList(BaseModel):
    """A page of documents."""

    documents: list[DocumentInfoBody]
    next_cursor: str | None


class ErasureBody(BaseModel):
    """An erasure: how many rows went and, by table, what a search has found since. Finished and
    signed (Ed25519) when that is nothing.
    """

    erasure_id: UUID
    tenant_id: str
    what: Literal["document", "tenant"]
    subject: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    state: Literal["erasing", "finished"]
    counts: dict[str, int]
    probe: dict[str, int]
    key_id: str | None
    signature: str | None


class VersionInfoBody(BaseModel):
    """One immutable version of a document."""

    version: int
    title: str
    metadata: dict[str, Any]
    content_hash: str
    chunks: int
    effective_from: datetime
    effective_until: datetime | None
    created_at: datetime
    current: bool


class VersionList(BaseModel):
    """The versions of a document."""

    versions: list[VersionInfoBody]
    next_cursor: str | None


class AuditEntryBody(BaseModel):
    """One entry of the audit log; `hash` covers it and the one before."""

    seq: int
    at: datetime
    actor: str
    actor_name: str
    request_id: UUID | None
    action: str
    subject: str
    details: dict[str, Any]
    hash: str


class AuditList(BaseModel):
    """A page of the audit log, newest first."""

    entries: list[AuditEntryBody]
    next_cursor: str | None


class AuditFaultBody(BaseModel):
    """The first entry that is not what it was."""

    position: int
    reason: str


class AuditVerdictBody(BaseModel):
    """Whether the log is what it was; `anchored`: up to where a signed checkpoint vouches."""

    valid: bool
    tenant_id: str
    entries: int
    head: str
    anchored: int
    public_key: str
    fault: AuditFaultBody | None


class UsageEventBody(BaseModel):
    """A row of the ledger."""

    model_config = ConfigDict(extra="allow")

    request_id: UUID
    attempt: int
    operation: str
    provider: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    outcome: str | None
    state: Literal["reserved", "settled", "released", "interrupted"]
    estimated: bool
    price_version: str
    latency_ms: float | None
    started_at: datetime
    settled_at: datetime | None


class StatementLineBody(BaseModel):
    """All events of one operation, provider, model and price version."""

    operation: str
    provider: str
    model: str
    price_version: str
    events: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    unpriced_events: int
    estimated_events: int
    open_events: int
    interrupted_events: int


class StatementBody(BaseModel):
    """A month of a tenant; the lines add up to the total, and the total is the ledger's."""

    tenant_id: str
    month: str
    period_start: datetime
    period_end: datetime
    currency: Literal["USD"]
    total_micro_usd: int
    total_usd: str
    complete: bool
    reasons: list[str]
    unpriced_events: int
    open_events: int
    interrupted_events: int
    lines: list[StatementLineBody]


class UsageList(BaseModel):
    """A page of the ledger."""

    events: list[UsageEventBody]
    next_cursor: str | None


class TenantBody(BaseModel):
    """A tenant: `config` and `limits` are its own values, not what it inherits."""

    tenant_id: str
    name: str
    status: str
    config: dict[str, Any]
    limits: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime


class TenantList(BaseModel):
    """A page of tenants."""

    tenants: list[TenantBody]
    next_cursor: str | None


class IssuedKeyBody(BaseModel):
    """A key at the one moment when its secret is shown."""

    key_id: UUID
    secret: str
    name: str
    scopes: list[Scope]
    expires_at: datetime | None


class NewTenantReply(BaseModel):
    """A new tenant and its first key."""

    tenant: TenantBody
    api_key: IssuedKeyBody


class KeyBody(BaseModel):
    """A key without its secret."""

    key_id: UUID
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class KeyList(BaseModel):
    """A page of keys."""

    keys: list[KeyBody]
    next_cursor: str | None


class ConfigReply(BaseModel):
    """The values that were set here, without what lies below them."""

    version: int
    config: dict[str, Any]


class OriginBody(BaseModel):
    """A value and where it comes from."""

    value: Any
    layer: Literal["system", "tenant", "query"]
    set_by: str | None
    set_at: datetime | None


class EffectiveConfigReply(BaseModel):
    """What holds, value by value."""

    version: int
    values: dict[str, OriginBody]


class WhoAmI(BaseModel):
    """Who the key is."""

    tenant_id: str | None
    key_id: str
    name: str
    scopes: list[Scope]
    expires_at: datetime | None


class ComponentBody(BaseModel):
    """How one part is."""

    status: str
    detail: str | None


class ReadinessBody(BaseModel):
    """Which parts are ready, limited or down, and why."""

    status: Literal["ready", "limited", "down"]
    components: dict[str, ComponentBody]


class Health(BaseModel):
    """Alive: told from memory, nothing is touched."""

    status: Literal["healthy"]
    environment: str
    services: dict[str, bool]
    version: str
