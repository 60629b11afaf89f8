"""Bodies of requests about keys: ours, and a tenant's with vendors."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.schemas import Body, Count, Name

TenantScope = Literal[Scope.QUERY, Scope.INGEST, Scope.USAGE_READ, Scope.TENANT_ADMIN]


def _once_each(scopes: list[TenantScope]) -> list[TenantScope]:
    return list(dict.fromkeys(scopes))


class NewKeyBody(Body):
    """A key to be made."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"name": "reporting", "scopes": ["usage:read"], "expires_in_days": 90}
        }
    )

    name: Name
    scopes: Annotated[
        list[TenantScope], Field(min_length=1, max_length=20), AfterValidator(_once_each)
    ]
    expires_in_days: (
        Annotated[float, Field(strict=True, gt=0, le=3650, allow_inf_nan=False)] | None
    ) = None


class ProviderKeyBody(Body):
    """A vendor's key; it is never shown again."""

    model_config = ConfigDict(json_schema_extra={"example": {"key": "a-key-of-the-vendor"}})

    key: Annotated[str, Field(strict=True, min_length=8, max_length=500, pattern=r"^[!-~]+$")]


class RotationBody(Body):
    """How long the old key still works beside its successor."""

    overlap_seconds: Annotated[Count, Field(le=30 * 86_400)] = 86_400
