"""The ambient tenant: it feeds telemetry and verifies, it never supplies.

Kept in a ContextVar and, for spans of our own, in OpenTelemetry baggage under `tenant_id`. Both
follow `await`, tasks and bound executors; neither leaves for a third party.
"""

from contextvars import ContextVar

from opentelemetry import baggage
from opentelemetry import context as otel_context

from compliance_copilot.core.errors import TenantMismatch
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.telemetry import metrics, requests
from compliance_copilot.telemetry.tracing import TENANT_KEY

BAGGAGE_KEY = TENANT_KEY
_current: ContextVar[TenantId | None] = ContextVar("compliance_copilot_tenant", default=None)


class TenantContext:
    """The tenant that the running task works for."""

    @staticmethod
    def set_tenant(tenant_id: str) -> None:
        """Bind the tenant from here to the end of this task (or `clear_tenant`)."""
        _current.set(TenantId(tenant_id))
        otel_context.attach(baggage.set_baggage(BAGGAGE_KEY, tenant_id))

    @staticmethod
    def get_tenant() -> TenantId | None:
        """Return the bound tenant, None when there is none."""
        return _current.get()

    current = get_tenant

    @staticmethod
    def clear_tenant() -> None:
        """Bind nobody."""
        _current.set(None)
        otel_context.attach(baggage.remove_baggage(BAGGAGE_KEY))

    @staticmethod
    def bind(tenant_id: TenantId) -> "_Bound":
        """Return a context that binds the tenant and puts back what was there before."""
        return _Bound(tenant_id)

    @staticmethod
    def verify(tenant_id: TenantId) -> None:
        """Raise TenantMismatch when another tenant, or none, is bound."""
        bound = _current.get()
        if bound != tenant_id:
            metrics.VIOLATIONS.labels("context").inc()
            raise TenantMismatch("The work at hand belongs to another tenant.")


class _Bound:
    """The context of a bound tenant."""

    __slots__ = ("_baggage_token", "_tenant_id", "_token")

    def __init__(self, tenant_id: TenantId) -> None:
        self._tenant_id = tenant_id

    def __enter__(self) -> None:
        requests.note_tenant(self._tenant_id)
        self._token = _current.set(self._tenant_id)
        named = baggage.set_baggage(BAGGAGE_KEY, self._tenant_id)
        self._baggage_token = otel_context.attach(named)

    def __exit__(self, *_: object) -> None:
        otel_context.detach(self._baggage_token)
        _current.reset(self._token)
