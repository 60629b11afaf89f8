"""What every call to a vendor has in common: it carries nothing that names a tenant."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import baggage
from opentelemetry import context as otel_context


@contextmanager
def without_baggage() -> Iterator[None]:
    """Clear the baggage: some vendors' clients put it into a header by themselves.

    Decision 0011.
    """
    token = otel_context.attach(baggage.clear())
    try:
        yield
    finally:
        otel_context.detach(token)
