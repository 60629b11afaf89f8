"""Every failure the service can name.

Errors carry facts; the gateway turns them into RFC 9457 problems (`gateway/problems.py` holds the
one table of titles and statuses).

    CopilotError
    ├── InvalidRequest            422  a field's value cannot be used        field, reason
    ├── Unauthenticated           401  no key, or not a valid one
    ├── Forbidden                 403  a valid key, not for this             reason
    │   └── TenantMismatch        403  context, path or body name another tenant
    ├── NotFound                  404  unknown, or another tenant's          kind
    │   └── UnknownTenant         404  no such tenant                        tenant_id
    ├── Gone                      410  erased or past its retention          kind
    ├── Conflict                  409  the state does not allow it           reason
    ├── PayloadTooLarge           413  limit_bytes
    ├── UnsupportedMedia          415  reason
    ├── LimitReached              429  limit, retry_after_seconds, quota ...
    │   └── BudgetExhausted       429  the month's money is spent or held
    ├── ModelUnavailable          502  no generator of the chain answered    provider, reason
    ├── StoreUnavailable          503  the database does not answer: no row, no call
    ├── RetrievalUnavailable      503  the vector store does not answer
    ├── Overloaded                503  shed before any work was done
    ├── DeadlineExceeded          504  the time for this request is over
    ├── NotInitialized            200  the seed's limited mode ("skipped")   reason
    └── SetupError                 -   the service cannot start              (one line for a person)
"""

from collections.abc import Mapping
from typing import ClassVar


class CopilotError(Exception):
    """The root: a code (the outcome word), and facts about this occurrence."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str = "", **facts: object) -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        self.facts: Mapping[str, object] = facts


class InvalidRequest(CopilotError):
    """A field's value cannot be used. Facts: `field`."""

    code = "invalid_request"


class Unauthenticated(CopilotError):
    """No key, or one that is not (or no longer) valid."""

    code = "unauthenticated"


class Forbidden(CopilotError):
    """A valid key that may not do this. Facts: `required_scope` when a scope is missing."""

    code = "forbidden"


class TenantMismatch(Forbidden):
    """The context, a path or a body names a tenant other than the key's."""

    code = "tenant_mismatch"


class NotFound(CopilotError):
    """Unknown, or another tenant's: the two are answered alike. Facts: `kind`."""

    code = "not_found"


class UnknownTenant(NotFound):
    """No tenant has this id. Facts: `tenant_id`."""


class Gone(CopilotError):
    """It existed, and its content was erased or has outlived its retention."""

    code = "gone"


class Conflict(CopilotError):
    """The present state does not allow it. Facts: `retry_after_seconds` when waiting helps."""

    code = "conflict"


class PayloadTooLarge(CopilotError):
    """The body, a file or a text is too large. Facts: `limit_bytes`."""

    code = "payload_too_large"


class UnsupportedMedia(CopilotError):
    """The content type is not one that can be read."""

    code = "unsupported_media_type"


class LimitReached(CopilotError):
    """A limit of the tenant holds. Facts: `limit`, `quota`, `window_seconds`, `remaining`,
    `retry_after_seconds`.
    """

    code = "limit_reached"


class BudgetExhausted(LimitReached):
    """The month's budget is spent or held by requests under way."""

    code = "budget_exhausted"


class ModelUnavailable(CopilotError):
    """No generator of the chain answered. Facts: `provider`, `reason`."""

    code = "model_unavailable"


class StoreUnavailable(CopilotError):
    """The database does not answer. Facts: `retry_after_seconds`."""

    code = "store_unavailable"


class RetrievalUnavailable(CopilotError):
    """The vector store does not answer; never told as an empty result."""

    code = "retrieval_unavailable"


class Overloaded(CopilotError):
    """Shed before any work was done. Facts: `retry_after_seconds`."""

    code = "overloaded"


class DeadlineExceeded(CopilotError):
    """The time for this request is over. Facts: `deadline_seconds`."""

    code = "deadline_exceeded"


class NotInitialized(CopilotError):
    """The seed's limited mode: a named provider has no key. The reply is 200 `skipped`."""

    code = "not_initialized"


class SetupError(CopilotError):
    """The service cannot start; the detail is one line for the person who started it."""

    code = "setup_error"
