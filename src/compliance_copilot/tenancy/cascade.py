"""The configuration cascade: system -> tenant -> query, as one pure function.

A layer is a mapping field -> ValueOrigin, so every value of the result knows where it is from.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.core.vocabulary import (
    EffectiveConfig,
    ModelTier,
    ResourceLimits,
    RetrievalMode,
    Unsupported,
)


@dataclass(frozen=True, slots=True)
class ValueOrigin:
    """Where a configuration value comes from: the layer, and who set it when."""

    value: Any
    layer: str
    set_by: str | None = None
    set_at: datetime | None = None


Layer = Mapping[str, ValueOrigin]
CONFIG_FIELDS: tuple[str, ...] = tuple(
    f.name for f in fields(EffectiveConfig) if f.name != "own_keys"
)
SYSTEM, TENANT, QUERY = "system", "tenant", "query"


class ConfigPatch(BaseModel):
    """Values for some fields of the cascade; what is not named stays as it is, and None takes
    the layer's own value away.
    """

    model_config = ConfigDict(extra="forbid")

    model_tier: ModelTier | None = None
    retrieval_mode: RetrievalMode | None = None
    top_k: int | None = Field(default=None, ge=1, le=100)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    min_evidence: float | None = Field(default=None, ge=0.0, le=1.0)
    fallback: tuple[ModelTier, ...] | None = None
    cache: bool | None = None
    cache_seconds: int | None = Field(default=None, ge=1, le=30 * 86_400)
    unsupported: Unsupported | None = None
    hold_suspicious: bool | None = None
    max_steps: int | None = Field(default=None, ge=1, le=10)
    answer_retention_days: int | None = Field(default=None, ge=0, le=3650)
    document_retention_days: int | None = Field(default=None, ge=1, le=36_500)
    legal_hold: str | None = Field(default=None, min_length=1, max_length=500)
    query_overrides: tuple[str, ...] | None = None


class LimitsPatch(BaseModel):
    """Values for some limits; `null` lifts a limit that can be lifted."""

    model_config = ConfigDict(extra="forbid")

    max_queries_per_hour: int | None = Field(default=None, ge=0)
    max_tokens_per_query: int | None = Field(default=None, ge=1)
    max_concurrent_requests: int | None = Field(default=None, ge=0)
    max_documents: int | None = Field(default=None, ge=0)
    max_bytes: int | None = Field(default=None, ge=0)
    monthly_budget_usd: float | None = Field(default=None, ge=0, le=1e9)
    requests_per_minute: int | None = Field(default=None, ge=0)


def checked_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given fields in JSON form, validated, without those that are None.

    Raises InvalidRequest with the field.
    """
    return {name: value for name, value in checked_patch(values).items() if value is not None}


def checked_patch(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given fields in JSON form, validated; None takes a layer's own value away, so
    that the layer below holds again. Raises InvalidRequest with the field.
    """
    try:
        patch = ConfigPatch.model_validate(dict(values))
    except ValidationError as error:
        raise _first_fault(error) from None
    unknown = sorted(set(patch.query_overrides or ()) - set(CONFIG_FIELDS))
    if unknown:
        raise InvalidRequest(f"There is no field {unknown[0]!r}.", field="query_overrides")
    return patch.model_dump(mode="json", exclude_unset=True)


def checked_limits(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given limits, validated. Raises InvalidRequest with the field."""
    try:
        patch = LimitsPatch.model_validate(dict(values))
    except ValidationError as error:
        raise _first_fault(error) from None
    given = patch.model_dump(exclude_unset=True)
    if given.get("max_tokens_per_query", 1) is None:
        raise InvalidRequest("This limit cannot be lifted.", field="max_tokens_per_query")
    return given


def resolve(system: Layer, tenant: Layer, query: Mapping[str, Any]) -> EffectiveConfig:
    """Return what holds for one question: the topmost layer that names a field decides it.

    Raises InvalidRequest for a field that the tenant does not let its queries override, an
    unknown one, a bad value, or `max_tokens` above the tenant's.
    """
    below = _laid_over(EffectiveConfig(), {**system, **tenant})
    forbidden = sorted(set(query) - set(below.query_overrides))
    if forbidden:
        known = forbidden[0] in CONFIG_FIELDS
        reason = "may not be overridden by a query" if known else "is not a configuration field"
        raise InvalidRequest(f"{forbidden[0]} {reason}.", field=forbidden[0])
    over = checked_config(query)
    if over.get("max_tokens", 0) > below.max_tokens:
        raise InvalidRequest(
            f"max_tokens may be at most {below.max_tokens} for this tenant.", field="max_tokens"
        )
    return _laid_over(below, {n: ValueOrigin(v, QUERY) for n, v in over.items()})


def explain(system: Layer, tenant: Layer) -> dict[str, ValueOrigin]:
    """Return every field with its value and the layer, setter and time it comes from."""
    held = asdict(resolve(system, tenant, {}))
    resolved = {name: held[name] for name in CONFIG_FIELDS}
    origins = {name: ValueOrigin(value, SYSTEM) for name, value in resolved.items()}
    for layer in (system, tenant):
        for name, origin in layer.items():
            origins[name] = replace(origin, value=resolved[name])
    return origins


def laid_limits(defaults: ResourceLimits, own: Mapping[str, Any]) -> ResourceLimits:
    """Return the limits of a tenant: its own over the deployment's."""
    known = {f.name for f in fields(ResourceLimits)}
    return replace(defaults, **{name: value for name, value in own.items() if name in known})


def system_layer(base: EffectiveConfig, stored: Layer) -> Layer:
    """Return the system layer: what the operator stored over what the settings say."""
    held = asdict(base)
    return {n: ValueOrigin(held[n], SYSTEM, "settings") for n in CONFIG_FIELDS} | dict(stored)


def _laid_over(base: EffectiveConfig, layer: Layer) -> EffectiveConfig:
    values = {n: _typed(n, o.value) for n, o in layer.items() if n in CONFIG_FIELDS}
    return replace(base, **values)


_CASTS: dict[str, Any] = {
    "model_tier": ModelTier,
    "retrieval_mode": RetrievalMode,
    "unsupported": Unsupported,
    "fallback": lambda tiers: tuple(ModelTier(tier) for tier in tiers),
    "query_overrides": tuple,
}


def _typed(name: str, value: Any) -> Any:
    cast = _CASTS.get(name)
    return cast(value) if cast else value


def _first_fault(error: ValidationError) -> InvalidRequest:
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    unknown = fault["type"] == "extra_forbidden"
    words = f"{where} is not a known field." if unknown else f"{where}: {fault['msg']}."
    return InvalidRequest(words, field=where)
