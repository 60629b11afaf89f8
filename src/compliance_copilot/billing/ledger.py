"""Reading the ledger: sums over a window, and its rows page by page."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import InvalidRequest, NotFound
from compliance_copilot.core.vocabulary import TenantId, UsageSummary
from compliance_copilot.storage.database import Database, Row

_CORRECT = "SELECT append_correction($1, $2, $3, $4) AS attempt"
_SUMMARY = "SELECT * FROM usage_summary($1, $2, $3)"
_PAGE = """
    SELECT request_id, attempt, operation, provider, model, provider_model, provider_response_id,
           input_tokens, output_tokens, cached_input_tokens, cost_micro_usd, outcome, state, final,
           estimated, unpriced, price_version, latency_ms, started_at, settled_at
    FROM usage_events
    WHERE tenant_id = $1 AND ($2::text IS NULL OR operation = $2)
      AND ($3::timestamptz IS NULL OR started_at >= $3)
      AND ($4::timestamptz IS NULL OR started_at < $4)
      AND ($5::uuid IS NULL OR (request_id, attempt) < ($5, $6))
    ORDER BY request_id DESC, attempt DESC LIMIT $7
"""
_LAST_ATTEMPT = 32_767


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One attempt, as it stands in the ledger."""

    request_id: UUID
    attempt: int
    operation: str
    provider: str | None
    model: str | None
    provider_model: str | None
    provider_response_id: str | None
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    cost_micro_usd: int
    outcome: str | None
    state: str
    final: bool
    estimated: bool
    unpriced: bool
    price_version: str
    latency_ms: float | None
    started_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which rows: None leaves a side open."""

    operation: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class UsageLedger:
    """The ledger of every tenant, read one tenant at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, tenant_id: TenantId, hours: float) -> UsageSummary:
        """Return the sums over the last `hours`."""
        until = utc_now()
        rows = await self._database.call(
            tenant_id, _SUMMARY, until - timedelta(hours=hours), until + timedelta(seconds=1)
        )
        values: dict[str, Any] = dict(rows[0])
        values["avg_latency_ms"] = values["avg_latency_ms"] or 0.0
        return UsageSummary(tenant_id=tenant_id, time_window_hours=hours, **values)

    async def append_correction(
        self, tenant_id: TenantId, request_id: UUID, micro_usd: int, *, reason: str
    ) -> int:
        """Append a row that corrects what a request cost, on today's date; return its attempt.

        Nothing is ever changed backwards. Raises NotFound.
        """
        rows = await self._database.call(
            tenant_id, _CORRECT, request_id, micro_usd, f"correction: {reason}"
        )
        attempt: int | None = rows[0]["attempt"]
        if attempt is None:
            raise NotFound("No such request in the ledger.", kind="usage_event")
        return attempt

    async def list(
        self,
        tenant_id: TenantId,
        *,
        wanted: UsageFilter = UsageFilter(),
        cursor: str | None = None,
        limit: int = 100,
    ) -> tuple[list[UsageEvent], str | None]:
        """Return a page of rows, newest first, and the cursor of the next page.

        Raises InvalidRequest for a cursor that is not ours.
        """
        after = _parse(cursor) if cursor else (None, None)
        async with self._database.transaction(tenant_id) as connection:
            rows: list[Row] = await connection.fetch(
                _PAGE,
                tenant_id,
                wanted.operation,
                wanted.since,
                wanted.until,
                *after,
                limit + 1,
            )
        events = [UsageEvent(**dict(row)) for row in rows[:limit]]
        more = len(rows) > limit
        return events, f"{events[-1].request_id}.{events[-1].attempt}" if more else None


def _parse(cursor: str) -> tuple[UUID, int]:
    request_id, _, attempt = cursor.partition(".")
    try:
        place = UUID(request_id), int(attempt)
    except ValueError:
        place = UUID(int=0), -1
    if not 0 <= place[1] <= _LAST_ATTEMPT:
        raise InvalidRequest("This cursor is not one of ours.", field="cursor")
    return place
