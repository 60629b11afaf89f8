"""Admission: who, which configuration, every limit and the intent row, in one round trip.

The worker computes from the configuration it holds; the database compares versions and, when it
is old, gives the new one back without admitting. So a change holds for the next request on every
worker, and a worker that is up to date needs one round trip.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.core.clock import Deadline, new_id
from compliance_copilot.core.errors import (
    BudgetExhausted,
    Conflict,
    CopilotError,
    DeadlineExceeded,
    Forbidden,
    Gone,
    InvalidRequest,
    LimitReached,
    StoreUnavailable,
    Unauthenticated,
    UnknownTenant,
)
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    IdempotencyClaim,
    Operation,
    Permit,
    Principal,
    Replay,
    Reservation,
    ResourceLimits,
    Scope,
    SealedKey,
    TenantId,
)
from compliance_copilot.storage.database import Database, Row
from compliance_copilot.telemetry import metrics
from compliance_copilot.telemetry.tracing import span
from compliance_copilot.tenancy.cascade import (
    SYSTEM,
    TENANT,
    Layer,
    laid_limits,
    resolve,
    system_layer,
)
from compliance_copilot.tenancy.config_manager import layer_of
from compliance_copilot.tenancy.tenants import unknown_tenant

LEASE_GRACE_SECONDS = 10.0
_ADMIT = "SELECT * FROM admit($1, $2)"
_ADMIT_READY = "SELECT * FROM admit_ready($1, $2, $3, $4)"
_USE = """
    SELECT t.limits,
           (SELECT w.admitted FROM window_state($1, 60, 3600, NULL, now()) w)
               AS queries_in_the_last_hour,
           (SELECT w.admitted FROM window_state($1, 1, 60, NULL, now()) w)
               AS requests_in_the_last_minute,
           (SELECT count(DISTINCT e.request_id) FROM usage_events e WHERE e.tenant_id = $1
            AND e.state = 'reserved' AND e.lease_expires_at > now()) AS requests_running,
           c.documents, c.text_bytes,
           coalesce((SELECT m.settled_micro_usd FROM spend_months m WHERE m.tenant_id = $1
            AND m.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date), 0)
               AS settled_micro_usd_this_month,
           coalesce((SELECT m.held_micro_usd FROM spend_months m WHERE m.tenant_id = $1
            AND m.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date), 0)
               AS held_micro_usd_this_month
    FROM tenants t JOIN corpora c ON c.tenant_id = t.tenant_id
    WHERE t.tenant_id = $1 AND t.status <> 'deleted'
"""
_MOST_TRIES = 4
_WAIT_SECONDS = 5.0
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.25
_SCOPES = {
    Operation.QUERY: Scope.QUERY,
    Operation.SEARCH: Scope.QUERY,
    Operation.INGEST: Scope.INGEST,
}
_WINDOWS = {"queries_per_hour": 3600, "requests_per_minute": 60}
_LIMIT_NAMES = {
    "queries_per_hour": "max_queries_per_hour",
    "requests_per_minute": "requests_per_minute",
    "concurrent_requests": "max_concurrent_requests",
    "max_documents": "max_documents",
    "max_bytes": "max_bytes",
}

Planner = Callable[[EffectiveConfig], Reservation]


@dataclass(frozen=True, slots=True)
class Ready:
    """The settlement of an answer at hand, good as long as the corpus has this version."""

    corpus_version: int
    settlement: tuple[object, ...]


def nothing_ready(_permit: Permit) -> Ready | None:
    """Return nothing: the work is still to be done."""
    return None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that wants in. `plan` tells from the configuration what it may cost at most."""

    operation: Operation
    plan: Planner
    timeout_seconds: float
    overrides: Mapping[str, Any] = field(default_factory=dict)
    principal: Principal | None = None
    idempotency: IdempotencyClaim | None = None
    request_id: UUID | None = None
    continues: bool = False
    """A further attempt of an admitted request (a batch of a job): no rate counts it again."""
    ready: Callable[[Permit], Ready | None] = nothing_ready
    """Asked with the permit that is about to be: an answer at hand is settled by admission."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A tenant's layers as some version had them; version 0 is none."""

    version: int = 0
    system: Layer = field(default_factory=dict)
    tenant: Layer = field(default_factory=dict)
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    own_keys: tuple[SealedKey, ...] = ()
    plain: EffectiveConfig = field(default_factory=EffectiveConfig)
    """What holds for a question that overrides nothing."""

    def config(self, overrides: Mapping[str, Any]) -> EffectiveConfig:
        """Return what holds for one question. Raises InvalidRequest."""
        resolved = resolve(self.system, self.tenant, overrides)
        most = min(resolved.max_tokens, self.limits.max_tokens_per_query)
        return replace(resolved, max_tokens=most, own_keys=self.own_keys)


class Admission:
    """Lets requests in, exactly as many as allowed, over any number of workers."""

    def __init__(
        self,
        database: Database,
        config: EffectiveConfig,
        limits: ResourceLimits,
        bring_into_force: Callable[[TenantId], Awaitable[None]],
    ) -> None:
        self._database = database
        self._bring_into_force = bring_into_force
        self._base = config
        self._default_limits = limits
        self._snapshots: dict[TenantId, _Snapshot] = {}

    async def admit(self, tenant_id: TenantId, ask: Ask) -> Permit | Replay:
        """Admit a request and commit its intent row.

        A repeat of an Idempotency-Key whose first request still runs waits for it.
        Raises UnknownTenant, Unauthenticated, Forbidden, InvalidRequest (an override),
        LimitReached, BudgetExhausted, Conflict, Gone, StoreUnavailable.
        """
        verdict, known = "error", True
        with span("admission", {"operation": ask.operation.value}) as admitting:
            try:
                permit = await self._admit_soon(tenant_id, ask)
                verdict = "replay" if isinstance(permit, Replay) else "admitted"
                return permit
            except CopilotError as error:
                verdict = str(error.facts.get("limit") or error.code)
                known = not isinstance(error, UnknownTenant)
                raise
            finally:
                admitting.set_attribute("verdict", verdict)
                tenant = metrics.tenant_label(tenant_id) if known else metrics.OTHER
                metrics.ADMISSIONS.labels(ask.operation.value, verdict, tenant).inc()

    async def _admit_soon(self, tenant_id: TenantId, ask: Ask) -> Permit | Replay:
        deadline = Deadline.after(ask.timeout_seconds)
        patience = Deadline.after(min(ask.timeout_seconds / 2, _WAIT_SECONDS))
        pause = _FIRST_POLL_SECONDS
        while True:
            try:
                return await self._admit_now(tenant_id, ask, deadline)
            except Conflict:
                if patience.passed:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    async def _admit_now(
        self, tenant_id: TenantId, ask: Ask, deadline: Deadline
    ) -> Permit | Replay:
        snapshot = self._snapshots.get(tenant_id, _Snapshot())
        for _ in range(_MOST_TRIES):
            permit, fault = self._draft(tenant_id, ask, snapshot, deadline)
            # A refused override is asked about once more: the snapshot may be old.
            version = 0 if fault else snapshot.version
            ready = ask.ready(permit) if version else None
            row = await self._asked(permit, _request(ask, permit, version), ready)
            if row["verdict"] == "due":
                await _in_time(self._bring_into_force(tenant_id), deadline)
                continue
            if row["verdict"] != "stale":
                return _answer(row, permit, tenant_id)
            if fault and row["version"] == snapshot.version:
                raise fault
            snapshot = self._remember(tenant_id, row)
        raise StoreUnavailable(
            "The configuration changes faster than it can be read.", retry_after_seconds=1
        )

    async def _asked(self, permit: Permit, request: tuple[object, ...], ready: Ready | None) -> Row:
        tenant_id, deadline = permit.tenant_id, permit.deadline
        if ready is None:
            rows = await self._database.call(tenant_id, _ADMIT, request, deadline=deadline)
        else:
            at_hand = (ready.corpus_version, ready.settlement)
            rows = await self._database.call(
                tenant_id, _ADMIT_READY, request, *at_hand, deadline=deadline
            )
        return rows[0]

    async def limits(self, tenant_id: TenantId) -> dict[str, Any]:
        """Return the tenant's limits and the use so far. Raises UnknownTenant."""
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(_USE, tenant_id)
        if row is None:
            raise unknown_tenant(tenant_id)
        limits = laid_limits(self._default_limits, orjson.loads(row["limits"]))
        use = {name: row[name] for name in dict(row) if name != "limits"}
        return {"tenant_id": tenant_id, "limits": asdict(limits), "use": use}

    def _draft(
        self, tenant_id: TenantId, ask: Ask, snapshot: _Snapshot, deadline: Deadline
    ) -> tuple[Permit, InvalidRequest | None]:
        fault: InvalidRequest | None = None
        config = snapshot.plain
        if snapshot.version and ask.overrides:
            try:
                config = snapshot.config(ask.overrides)
            except InvalidRequest as error:
                fault = error
        return Permit(
            tenant_id=tenant_id,
            request_id=ask.request_id or new_id(),
            operation=ask.operation,
            config=config,
            limits=snapshot.limits,
            reservation=ask.plan(config),
            corpus_version=0,
            deadline=deadline,
            lease_seconds=ask.timeout_seconds + LEASE_GRACE_SECONDS,
        ), fault

    def _remember(self, tenant_id: TenantId, row: Row) -> _Snapshot:
        snapshot = _Snapshot(
            version=row["version"],
            system=system_layer(self._base, layer_of(row["system_config"], SYSTEM)),
            tenant=layer_of(row["tenant_config"], TENANT),
            limits=laid_limits(self._default_limits, orjson.loads(row["tenant_limits"])),
            own_keys=_sealed_keys(tenant_id, row["provider_keys"]),
        )
        snapshot = replace(snapshot, plain=snapshot.config({}))
        self._snapshots[tenant_id] = snapshot
        return snapshot


async def _in_time(work: Awaitable[None], deadline: Deadline) -> None:
    try:
        async with asyncio.timeout(deadline.remaining_seconds()):
            await work
    except TimeoutError as error:
        raise DeadlineExceeded("The time for this request is over.") from error


def _sealed_keys(tenant_id: TenantId, stored: str | None) -> tuple[SealedKey, ...]:
    keys = orjson.loads(stored or "{}")
    return tuple(SealedKey(tenant_id, name, bytes.fromhex(keys[name])) for name in sorted(keys))


def budget_micro_usd(limits: ResourceLimits) -> int | None:
    """Return the monthly budget in micro-USD, None when there is none."""
    budget = limits.monthly_budget_usd
    return None if budget is None else round(budget * 1_000_000)


def _request(ask: Ask, permit: Permit, version: int) -> tuple[object, ...]:
    principal, claim, reserved = ask.principal, ask.idempotency, permit.reservation
    limits = permit.limits
    return (
        permit.request_id,
        ask.operation.value,
        principal.key_hash if principal else None,
        _SCOPES[ask.operation].value,
        version,
        limits.max_queries_per_hour,
        None if ask.continues else limits.requests_per_minute,
        None if ask.continues else limits.max_concurrent_requests,
        budget_micro_usd(limits),
        reserved.provider,
        reserved.model,
        reserved.price_version,
        reserved.micro_usd,
        reserved.unpriced,
        permit.lease_seconds,
        claim.key if claim else None,
        claim.body_hash if claim else None,
        ask.continues,
        limits.max_documents,
        limits.max_bytes,
    )


def _answer(row: Row, permit: Permit, tenant_id: TenantId) -> Permit | Replay:
    verdict: str = row["verdict"]
    if verdict in ("admitted", "settled"):
        return replace(
            permit,
            settled=verdict == "settled",
            corpus_version=row["corpus_version"],
            attempt=row["attempt"],
            quota=row["quota"],
            remaining=row["remaining"],
            reset_seconds=None if row["reset_after"] is None else ceil(row["reset_after"]),
        )
    if verdict == "replay":
        return Replay(orjson.loads(row["reply"]), row["original_request_id"])
    raise _refusal(verdict, row, tenant_id)


def _refusal(verdict: str, row: Row, tenant_id: TenantId) -> CopilotError:
    if verdict in _LIMIT_NAMES or verdict == "budget":
        return _limit(verdict, row)
    if verdict == "unknown_tenant":
        return unknown_tenant(tenant_id)
    facts = {"retry_after_seconds": 1} if verdict == "running" else {}
    kind, words = _REFUSALS[verdict]
    return kind(words, **facts)


_REFUSALS: dict[str, tuple[type[CopilotError], str]] = {
    "suspended": (Forbidden, "This tenant is suspended."),
    "unauthenticated": (Unauthenticated, "The key is unknown, revoked or expired."),
    "forbidden": (Forbidden, "The key lacks the scope for this."),
    "running": (Conflict, "The first request with this Idempotency-Key is still running."),
    "idempotency_mismatch": (
        InvalidRequest,
        "This Idempotency-Key came before with another body.",
    ),
    "gone": (Gone, "The reply stored under this Idempotency-Key has been erased."),
}


def _limit(verdict: str, row: Row) -> LimitReached:
    facts = {
        "quota": row["quota"],
        "remaining": row["remaining"] or 0,
        "retry_after_seconds": max(1, ceil(row["retry_after"] or 1)),
    }
    if verdict == "budget":
        return BudgetExhausted(
            "The month's budget does not carry this request.",
            limit="monthly_budget_usd",
            **facts,
        )
    name = _LIMIT_NAMES[verdict]
    return LimitReached(
        f"The limit {name} ({row['quota']}) is reached.",
        limit=name,
        window_seconds=_WINDOWS.get(verdict),
        **facts,
    )
