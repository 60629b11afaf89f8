"""The `RateLimit` and `RateLimit-Policy` headers (IETF draft-ietf-httpapi-ratelimit-headers)."""

from collections.abc import Mapping
from typing import Any

from compliance_copilot.core.vocabulary import ReplyMetadata

_POLICIES = {
    "max_queries_per_hour": "hour",
    "requests_per_minute": "minute",
    "max_concurrent_requests": "concurrent",
    "max_documents": "documents",
    "max_bytes": "bytes",
    "max_tokens_per_query": "tokens",
    "monthly_budget_usd": "month",
}


def refusal_headers(facts: Mapping[str, object]) -> dict[str, str]:
    """Return the headers of a 429 from the facts of a LimitReached."""
    headers = {}
    wait = facts.get("retry_after_seconds")
    policy = _POLICIES.get(str(facts.get("limit")), "limit")
    quota, window = facts.get("quota"), facts.get("window_seconds")
    if isinstance(quota, int):
        span = f";w={window}" if isinstance(window, int) else ""
        headers["RateLimit-Policy"] = f'"{policy}";q={quota}{span}'
    remaining = facts.get("remaining")
    rest = remaining if isinstance(remaining, int) else 0
    until = f";t={wait}" if isinstance(wait, int) else ""
    headers["RateLimit"] = f'"{policy}";r={rest}{until}'
    return headers


def quota_headers(metadata: ReplyMetadata) -> dict[str, str]:
    """Return the headers that tell an admitted caller what is left of its hour."""
    if metadata.quota is None or metadata.remaining is None:
        return {}
    until = "" if metadata.reset_seconds is None else f";t={metadata.reset_seconds}"
    return {
        "RateLimit-Policy": f'"hour";q={metadata.quota};w=3600',
        "RateLimit": f'"hour";r={max(0, metadata.remaining)}{until}',
    }


def described() -> dict[str, Any]:
    """Return the headers of a 429 as OpenAPI describes them."""
    words = {
        "Retry-After": "Seconds until another try can succeed.",
        "RateLimit": 'What is left, e.g. `"hour";r=0;t=42`.',
        "RateLimit-Policy": 'The limit, e.g. `"hour";q=100;w=3600`.',
    }
    return {n: {"description": d, "schema": {"type": "string"}} for n, d in words.items()}
