"""What the database says to a request that wants in, as a permit, a stored reply or a refusal.

Must not enter: the round trip itself, configuration.
"""

from dataclasses import replace
from math import ceil

import orjson

from compliance_copilot.core.errors import (
    BudgetExhausted,
    Conflict,
    CopilotError,
    Forbidden,
    Gone,
    InvalidRequest,
    LimitReached,
    Unauthenticated,
)
from compliance_copilot.core.vocabulary import Permit, Replay, TenantId
from compliance_copilot.storage.database import Row
from compliance_copilot.tenancy.tenants import unknown_tenant

_WINDOWS = {"queries_per_hour": 3600, "requests_per_minute": 60}
_LIMIT_NAMES = {
    "queries_per_hour": "max_queries_per_hour",
    "requests_per_minute": "requests_per_minute",
    "concurrent_requests": "max_concurrent_requests",
    "max_documents": "max_documents",
    "max_bytes": "max_bytes",
}


def outcome_of(row: Row, permit: Permit, tenant_id: TenantId) -> Permit | Replay:
    """Return what a verdict of the database gives. Raises the refusal that it is, typed."""
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
