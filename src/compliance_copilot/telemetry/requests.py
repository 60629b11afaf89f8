"""The request that the running task works for: its id, its tenant, the time its models took.

Made at the door, followed by every task that the request starts. It feeds log lines, spans and
metrics; it never supplies a tenant to anything that stores or reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class RequestFacts:
    """What is known of a request while it runs."""

    request_id: str
    tenant_id: str | None = None
    model_seconds: float = 0.0
    """What hosted models took; the rest of a request's time is the service's own."""


_facts: ContextVar[RequestFacts | None] = ContextVar("compliance_copilot_request", default=None)


def current() -> RequestFacts | None:
    """Return the facts of the running request, None outside of one."""
    return _facts.get()


@contextmanager
def entered(request_id: str) -> Iterator[RequestFacts]:
    """Make the facts of a new request for a block."""
    facts = RequestFacts(request_id)
    token = _facts.set(facts)
    try:
        yield facts
    finally:
        _facts.reset(token)


def note_tenant(tenant_id: str) -> None:
    """Tell whom the running request turned out to be for."""
    facts = _facts.get()
    if facts is not None:
        facts.tenant_id = tenant_id


def note_model_seconds(seconds: float) -> None:
    """Tell how long a hosted model took."""
    facts = _facts.get()
    if facts is not None:
        facts.model_seconds += seconds
