"""Admission: who, which configuration, every limit and the intent row, in one round trip.

The worker computes from the configuration it holds; the database compares versions and, when it
is old, gives the new one back without admitting. So a change holds for the next request on every
worker, and a worker that is up to date needs one round trip.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.core.clock import Deadline, new_id
from compliance_copilot.core.errors import (
    Conflict,
    CopilotError,
    DeadlineExceeded,
    InvalidRequest,
    StoreUnavailable,
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
from compliance_copilot.tenancy.verdicts import outcome_of

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
Planner = Callable[[EffectiveConfig], Reservation]


@dataclass(frozen=True, slots=True)
class Draft:
    """The permit that a request gets if nothing has changed and no limit is in its way."""

    permit: Permit
    config_version: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The settlement of an answer at hand, good for these versions and no others."""

    config_version: int
    corpus_version: int
    settlement: tuple[object, ...]


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
    draft: Draft | None = None
    """What `drafted` has given for it: the permit that it gets if that still holds."""
    ready: Ready | None = None
    """An answer at hand: it is settled by admission if it holds under what is in force then."""


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
        self._refused: set[TenantId] = set()

    def drafted(self, tenant_id: TenantId, ask: Ask) -> Draft | None:
        """Return what `admit` is about to give, as far as this process knows.

        None when it knows too little, and for a tenant whose last request was refused: what is
        made for the next one would likely be in vain.
        """
        snapshot = self._snapshots.get(tenant_id)
        if snapshot is None or tenant_id in self._refused:
            return None
        permit, fault = self._drawn(tenant_id, ask, snapshot, Deadline.after(ask.timeout_seconds))
        return None if fault else Draft(permit, snapshot.version)

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
                self._refused.discard(tenant_id)
                return permit
            except CopilotError as error:
                if tenant_id in self._snapshots:
                    self._refused.add(tenant_id)
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
            permit, fault = self._drawn(tenant_id, ask, snapshot, deadline)
            # A refused override is asked about once more: the snapshot may be old.
            version = 0 if fault else snapshot.version
            row = await self._asked(permit, _request(ask, permit, version), ask.ready, version)
            if row["verdict"] == "due":
                await _in_time(self._bring_into_force(tenant_id), deadline)
                continue
            if row["verdict"] != "stale":
                return outcome_of(row, permit, tenant_id)
            if fault and row["version"] == snapshot.version:
                raise fault
            snapshot = self._remember(tenant_id, row)
        raise StoreUnavailable(
            "The configuration changes faster than it can be read.", retry_after_seconds=1
        )

    async def _asked(
        self, permit: Permit, request: tuple[object, ...], ready: Ready | None, version: int
    ) -> Row:
        tenant_id, deadline = permit.tenant_id, permit.deadline
        if ready is None or ready.config_version != version:
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

    def _drawn(
        self, tenant_id: TenantId, ask: Ask, snapshot: _Snapshot, deadline: Deadline
    ) -> tuple[Permit, InvalidRequest | None]:
        if ask.draft is not None and ask.draft.config_version == snapshot.version:
            return ask.draft.permit, None
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
