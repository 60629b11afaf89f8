"""A service made by hand, given to the application by its constructor: no database, no model."""
# ruff: noqa: ARG002 - the methods have the parameters of the real ones

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from compliance_copilot.billing.statements import Statement, StatementLine, month_of
from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import NotFound, UnknownTenant
from compliance_copilot.core.vocabulary import (
    Chunk,
    Citation,
    IngestedDocument,
    IngestReply,
    Operation,
    Outcome,
    Principal,
    QueryReply,
    ReplyMetadata,
    RetrievalMode,
    Scope,
    ScoredChunk,
    SearchReply,
    TenantId,
    UsageSummary,
)
from compliance_copilot.orchestrator import Call
from compliance_copilot.rag.jobs import Job, Progress
from compliance_copilot.rag.mirroring import Difference
from compliance_copilot.tenancy.cascade import ValueOrigin
from compliance_copilot.tenancy.erasures import Receipt
from compliance_copilot.tenancy.keys import (
    IssuedKey,
    KeyRecord,
    hash_of,
    is_well_formed,
    make_secret,
)
from compliance_copilot.tenancy.provider_keys import ProviderKey
from compliance_copilot.tenancy.tenants import Tenant

THEN = datetime(2026, 11, 1, 12, tzinfo=UTC)
TENANT_SCOPES = frozenset(Scope) - {Scope.PLATFORM_ADMIN}
PLATFORM_SECRET = "a-platform-key-of-more-than-32-characters"
PLATFORM = Principal(
    None,
    "platform",
    "platform",
    frozenset({Scope.PLATFORM_ADMIN, Scope.USAGE_READ, Scope.TENANT_ADMIN}),
)
CHUNK = Chunk(new_id(), "policy", 2, 0, 10, 40, "Data is encrypted with AES-256.", "Policy", "4.2")


def metadata(tenant_id: str, request_id: UUID) -> ReplyMetadata:
    return ReplyMetadata(
        TenantId(tenant_id), request_id, "extractive", None, 250, 200, 50, 0.0042, 18.5,
        RetrievalMode.HYBRID, quota=100, remaining=99,
    )  # fmt: skip


@dataclass
class Keys:
    """Principals by secret; tells how often the database would have been asked."""

    principals: dict[str, Principal] = field(default_factory=dict)
    asked: list[bool] = field(default_factory=list)
    forgotten: list[Principal] = field(default_factory=list)

    def add(self, tenant_id: str, *scopes: Scope) -> str:
        secret = make_secret()
        self.principals[secret] = Principal(
            TenantId(tenant_id), str(new_id()), "a key", frozenset(scopes or TENANT_SCOPES),
            hash_of(secret),
        )  # fmt: skip
        return secret

    async def identify(self, secret: str, *, fresh: bool) -> Principal | None:
        if secret == PLATFORM_SECRET:
            return PLATFORM
        if not is_well_formed(secret):
            return None
        self.asked.append(fresh)
        return self.principals.get(secret)

    def knows(self, secret: str) -> bool:
        return secret in self.principals or secret == PLATFORM_SECRET

    def forget(self, principal: Principal) -> None:
        self.forgotten.append(principal)

    async def create(self, tenant_id: str, *, name: str, scopes: Any, expires_in_days: Any) -> Any:
        return IssuedKey(new_id(), make_secret(), name, scopes, None)

    async def list(self, tenant_id: str, *, after: UUID | None, limit: int) -> list[KeyRecord]:
        ids = [UUID(int=n) for n in range(1, 6) if after is None or n > after.int]
        scopes = (Scope.QUERY,)
        return [KeyRecord(i, "a key", scopes, THEN, None, None, None) for i in ids][:limit]

    async def revoke(self, tenant_id: str, key_id: UUID) -> None:
        raise NotFound("There is no such key.", kind="key")

    async def rotate(self, tenant_id: str, key_id: UUID, *, overlap: Any) -> IssuedKey:
        return IssuedKey(new_id(), make_secret(), "a key", (Scope.QUERY,), None)


def tenant(tenant_id: str) -> Tenant:
    return Tenant(TenantId(tenant_id), tenant_id, "active", {}, {}, 1, THEN, THEN)


@dataclass
class Tenants:
    known: tuple[str, ...] = ("acme_corp", "beta_inc")

    async def require(self, tenant_id: str) -> Tenant:
        if tenant_id not in self.known:
            raise UnknownTenant("There is no such tenant.", kind="tenant", tenant_id=tenant_id)
        return tenant(tenant_id)

    async def create(self, new: Any, *, set_by: str) -> Any:
        issued = IssuedKey(new_id(), make_secret(), "first key", (Scope.QUERY,), None)
        return tenant(new.tenant_id), issued

    async def list_ids(self, *, after: str, limit: int) -> list[str]:
        return [t for t in self.known if t > after][:limit]

    async def update(self, tenant_id: str, change: Any) -> Tenant:
        return tenant(tenant_id)

    async def delete(self, tenant_id: str) -> None:
        return None


class ProviderKeyStore:
    async def put(self, tenant_id: str, provider: str, secret: str, *, set_by: str) -> Any:
        return ProviderKey(provider, secret[-4:], set_by, THEN)

    async def require(self, tenant_id: str, provider: str) -> Any:
        return ProviderKey(provider, "cret", "someone", THEN)

    async def delete(self, tenant_id: str, provider: str) -> None:
        return None


class Config:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    async def _write(self, **values: Any) -> int:
        self.written.append(values)
        return 2

    def update_tenant_config(self, tenant_id: str, **values: Any) -> Any:
        return self._write(tenant_id=tenant_id, **values)

    def set_system_defaults(self, **values: Any) -> Any:
        return self._write(**values)

    async def explain(self, tenant_id: str) -> tuple[int, dict[str, ValueOrigin]]:
        return 2, {
            "top_k": ValueOrigin(8, "tenant", "someone", THEN),
            "cache": ValueOrigin(True, "system"),
        }

    async def explain_system(self) -> tuple[int, dict[str, ValueOrigin]]:
        return 1, {"top_k": ValueOrigin(5, "system", "settings", None)}


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    document_id: str
    title: str = "Policy"
    metadata: Any = field(default_factory=dict)
    version: int = 1
    chunks: int = 3
    created_at: datetime = THEN
    updated_at: datetime = THEN
    source_path: str | None = None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    version: int
    title: str = "Policy"
    metadata: Any = field(default_factory=dict)
    content_hash: str = "ab" * 32
    chunks: int = 3
    effective_from: datetime = THEN
    effective_until: datetime | None = None
    created_at: datetime = THEN
    current: bool = True


class Documents:
    ids = ("a", "b", "c", "d", "e")

    async def compare(self, tenant_id: str, manifest: Any) -> Difference:
        return Difference([], 0, [])

    async def list(
        self, tenant_id: str, *, after: str | None, limit: int, where: Any
    ) -> list[DocumentInfo]:
        return [DocumentInfo(i) for i in self.ids if after is None or i > after][:limit]

    async def require(self, tenant_id: str, document_id: str) -> DocumentInfo:
        if document_id not in self.ids:
            raise NotFound("There is no such document.", kind="document")
        return DocumentInfo(document_id)

    async def versions(self, tenant_id: str, document_id: str) -> Any:
        return [VersionInfo((await self.require(tenant_id, document_id)).version)]

    async def text(self, tenant_id: str, document_id: str, version: int) -> str:
        await self.require(tenant_id, document_id)
        return "Café\r\n\N{GRINNING FACE}"

    async def delete(self, tenant_id: str, document_id: str) -> None:
        await self.require(tenant_id, document_id)


class Answers:
    async def require(self, tenant_id: str, request_id: UUID) -> Any:
        raise NotFound("There is no such answer.", kind="answer")

    async def judge(self, tenant_id: str, *judged: Any) -> None:
        return None


class Conversations:
    async def forget(self, tenant_id: str, conversation_id: str) -> None:
        return None


class Usage:
    async def list(self, tenant_id: str, **window: Any) -> tuple[list[Any], str | None]:
        return [], None


class MonthlyStatements:
    async def draw(self, tenant_id: str, month: str) -> Statement:
        line = StatementLine("query", "openai", "m", "v1", 2, 200, 0, 50, 42, 0, 0, 0, 0)
        start, end = month_of(month)
        return Statement(
            TenantId(tenant_id), month, start, end, "USD", 42, "0.000042", True, (), 0, 0, 0,
            (line,),
        )  # fmt: skip


class Copilot:
    """Answers every call with fixed values, or raises what it was told to."""

    def __init__(self) -> None:
        self.documents, self.usage, self.statements = Documents(), Usage(), MonthlyStatements()
        self.answers = Answers()
        self.conversations = Conversations()
        self.calls: list[tuple[Any, ...]] = []
        self.fault: BaseException | None = None
        self.reply: Any = None

    async def query(self, tenant_id: str, text: str, *, call: Call, **rest: Any) -> Any:
        self._note(tenant_id, text, {**rest, "call": call})
        citation = Citation(1, 0, "AES-256", 33, 40)
        meta = metadata(tenant_id, call.request_id)
        return self.reply or QueryReply(
            "It is [1].", Outcome.ANSWERED, [ScoredChunk(CHUNK, 0.9)], [citation], meta
        )

    async def search(self, tenant_id: str, text: str, *, call: Call, **rest: Any) -> Any:
        self._note(tenant_id, text, {**rest, "call": call})
        return SearchReply([ScoredChunk(CHUNK, 0.9)], metadata(tenant_id, call.request_id))

    async def revise(self, tenant_id: str, document_id: str, revision: Any) -> DocumentInfo:
        return await self.documents.require(tenant_id, document_id)

    async def ingest(self, tenant_id: str, documents: Any, *, call: Call, **rest: Any) -> Any:
        self._note(tenant_id, documents, {**rest, "call": call})
        done = [IngestedDocument(d.document_id or "derived", 1, "created", 1) for d in documents]
        return self.reply or IngestReply(TenantId(tenant_id), call.request_id, done, len(done))

    async def metrics(self, tenant_id: str, hours: float) -> UsageSummary:
        zeros = (0,) * 8
        return UsageSummary(TenantId(tenant_id), hours, 0, 0, 0.0, *zeros, cache_hits=0)

    async def limits(self, tenant_id: str) -> Any:
        return {"max_queries_per_hour": {"limit": 100, "used": 1}}

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fault is not None:
            raise self.fault


@dataclass(frozen=True, slots=True)
class Component:
    status: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    status: str
    components: Any


class Audit:
    async def record(self, tenant_id: str, entry: Any) -> None:
        return None

    async def list(self, tenant_id: str, wanted: Any, *, before: Any, limit: int) -> list[Any]:
        return []

    async def verify(self, tenant_id: str) -> dict[str, Any]:
        facts = {"entries": 0, "head": "", "anchored": 0, "public_key": "", "fault": None}
        return {"valid": True, "tenant_id": tenant_id, **facts}


class Erasing:
    @property
    def store(self) -> "Erasing":
        return self

    async def document(self, tenant_id: str, document_id: str, *, requested_by: str) -> Receipt:
        await Documents().require(tenant_id, document_id)
        return receipt(tenant_id, "document", document_id)

    async def tenant(self, tenant_id: str, *, requested_by: str) -> Receipt:
        return receipt(tenant_id, "tenant", tenant_id)

    async def require(self, tenant_id: str, erasure_id: UUID) -> Receipt:
        return receipt(tenant_id, "document", "a")


def receipt(tenant_id: str, what: str, subject: str) -> Receipt:
    who = TenantId(tenant_id)
    return Receipt(new_id(), who, what, subject, "key", THEN, THEN, "finished", {}, {}, "k", "s")


class Jobs:
    async def require(self, tenant_id: str, job_id: UUID) -> Job:
        progress = Progress(1, 1, 3, None, 0.0)
        told = {"name": "a.txt", "state": "succeeded", "chunks": 3, "size_bytes": 8}
        return Job(job_id, "succeeded", THEN, progress, [told])

    async def cancel(self, tenant_id: str, job_id: UUID) -> Job:
        return await self.require(tenant_id, job_id)

    async def list(self, tenant_id: str, *, before: UUID | None, limit: int) -> list[Job]:
        return [await self.require(tenant_id, UUID(int=n)) for n in range(5, 0, -1)][:limit]


class Filing:
    jobs = Jobs()

    async def accept(
        self, tenant_id: str, files: Any, *, call: Call, effective_from: datetime | None = None
    ) -> UUID:
        return new_id()


@dataclass
class Service:
    copilot: Copilot = field(default_factory=Copilot)
    keys: Keys = field(default_factory=Keys)
    tenants: Tenants = field(default_factory=Tenants)
    provider_keys: ProviderKeyStore = field(default_factory=ProviderKeyStore)
    config: Config = field(default_factory=Config)
    audit: Audit = field(default_factory=Audit)
    erasing: Erasing = field(default_factory=Erasing)
    filing: Filing = field(default_factory=Filing)
    readiness: str = "ready"
    skip_reason: str | None = None
    crowd: bool = False
    queue: bool = False

    async def status(self) -> Readiness:
        return Readiness(self.readiness, {"database": Component(self.readiness)})

    def crowded(self) -> bool:
        return self.crowd

    def queueing(self) -> bool:
        return self.queue

    def skipped(self, operation: Operation) -> str | None:
        return self.skip_reason
