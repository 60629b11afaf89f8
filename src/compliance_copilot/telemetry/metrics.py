"""Every metric of the service, by name. Counted where the fact happens, read by `GET /metrics`.

Labels are bounded: routes are templates, tenants are those of `tenant_label`, the rest are words of
ours. Each metric has at least one label, so that its values are made after `sharing.shared`.
Dashboards and alerts name these metrics; `tests/telemetry/test_deployment.py` compares.
"""

from typing import Any, Self

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from compliance_copilot.telemetry.sharing import OTHER, REGISTRY, tenant_label

__all__ = ["OTHER", "tenant_label"]
_QUICK = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_SLOW = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class _Found(MetricWrapperBase):
    """Looks first whether the series is there by its labels, which are texts: no lock, no copy."""

    def labels(self, *labelvalues: object, **labelkwargs: object) -> Self:
        """Return the series of these labels."""
        there: Any = self._metrics.get(labelvalues)  # type: ignore[arg-type]
        return there or super().labels(*labelvalues, **labelkwargs)


class _Counter(_Found, Counter):
    pass


class _Histogram(_Found, Histogram):
    pass


def _counter(name: str, what: str, *labels: str) -> Counter:
    return _Counter(f"copilot_{name}", what, labels, registry=REGISTRY)


def _gauge(name: str, what: str, *labels: str, over_workers: str = "livesum") -> Gauge:
    return Gauge(
        f"copilot_{name}",
        what,
        labels,
        registry=REGISTRY,
        multiprocess_mode=over_workers,  # type: ignore[arg-type] # a Literal of eleven words
    )


def _seconds(name: str, what: str, *labels: str, buckets: tuple[float, ...] = _SLOW) -> Histogram:
    return _Histogram(f"copilot_{name}_seconds", what, labels, registry=REGISTRY, buckets=buckets)


# The door
HTTP_REQUESTS = _counter(
    "http_requests", "Requests by route template and status.", "method", "route", "status"
)
HTTP_LATENCY = _seconds("http_request", "From first to last byte.", "route")
OWN_LATENCY = _seconds(
    "http_request_own", "Without the time of hosted models.", "route", buckets=_QUICK
)
PASSED = _counter("passed", "Passed to another worker, by why: its queue was shorter.", "reason")
SHED = _counter("shed", "Sent away before any work, by what was too much.", "reason")

# Admission
ADMISSIONS = _counter(
    "admissions", "Admitted, or the limit that refused.", "operation", "verdict", "tenant"
)

# Answers
RETRIEVAL = _seconds("retrieval", "Embedding and search.", "mode", buckets=_QUICK)
GENERATION = _seconds("generation", "One call of a generator.", "provider", "model")
SENTENCES = _counter("sentences", "Sentences of answers: supported by a quote or not.", "support")
FALLBACKS = _counter(
    "fallbacks", "Answers by another tier than asked for.", "requested", "answered", "reason"
)
CACHE = _counter("cache_lookups", "Look-ups of kept answers: hit or miss.", "result", "tenant")
BREAKER = _gauge(
    "breaker_state",
    "0 closed, 1 half open, 2 open; the worst worker's.",
    "provider",
    "model",
    over_workers="livemax",
)

# The ledger
OPERATIONS = _counter(
    "operations", "Settled requests by outcome.", "operation", "outcome", "tenant"
)
ATTEMPTS = _counter(
    "attempts", "Settled attempts by outcome.", "operation", "provider", "model", "outcome"
)
TOKENS = _counter("tokens", "Tokens by direction.", "provider", "model", "direction", "tenant")
COST = _counter("cost_micro_usd", "Settled cost in micro-USD.", "provider", "model", "tenant")
UNPRICED = _counter("unpriced_attempts", "Attempts without a price: an alarm.", "model")
SETTLEMENT = _seconds("settlement", "From the end of the work to the commit.", "way")
JOURNAL_LINES = _gauge("journal_lines", "Settlements that wait for the database.", "kind")
JOURNAL_BYTES = _gauge("journal_bytes", "What they take on disk.", "kind")
JOURNAL_AGE = _gauge(
    "journal_age_seconds", "How long the oldest waits.", "kind", over_workers="livemax"
)
LAST_RUN = _gauge(
    "last_run_timestamp_seconds",
    "When a task in the background last ran well.",
    "task",
    over_workers="livemax",
)

# Stores
HOT_INDEX_WAITING = _gauge("hot_index_waiting", "Corpora that are being loaded or read.", "kind")
HOT_INDEX_BYTES = _gauge("hot_index_bytes", "Corpora mapped by this worker.", "kind")
CONNECTIONS = _gauge("database_connections", "The pool: in_use, idle, most.", "state")
DATABASE_UP = _gauge("database_up", "1: the database answers.", "kind", over_workers="livemin")
RESTARTS = _counter("embedded_server_restarts", "The embedded database died.", "reason")
INGESTED = _counter("ingested", "Documents and chunks written.", "kind", "tenant")
JOBS = _gauge("jobs", "Jobs that wait or run.", "state", over_workers="livemax")
JOBS_AGE = _gauge(
    "jobs_oldest_seconds", "How long the oldest job waits.", "state", over_workers="livemax"
)

# The walls
VIOLATIONS = _counter("isolation_violations", "A wall held where none should be met.", "wall")
BUILD = _gauge("build_info", "1, with the version.", "version", over_workers="livemax")
