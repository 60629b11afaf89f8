"""Conditions on documents as one frozen tree, with one meaning on every path.

There is no node for `not`: the reader (`filter_language.py`) pushes it down to the conditions, so
that each store can say the same. A condition on a field that a document does not have holds in no
form (nor does its opposite), `exists: false` apart: a filter on an unknown field finds nothing.

Fields: `document_id`; `effective_from` and `created_at` (instants of the version); any other name
is a field of the document's metadata, at its top level. A text, a number and a truth value are
compared as they are; a list stands for each text in it (`eq`: one of them is equal, `ne`: none
is). What is null, an object or a list without a text counts as absent. Must not enter: SQL, SDKs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool | datetime
Plain: TypeAlias = str | int | float | bool | Sequence[str]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Operator(StrEnum):
    """How a field is compared with a value."""

    EQ = "eq"
    NE = "ne"
    IN = "in"
    NIN = "nin"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"


class Place(StrEnum):
    """Where a field of a condition is kept."""

    METADATA = "metadata"
    DOCUMENT = "document_id"
    EFFECTIVE = "effective_from"
    CREATED = "created_at"


@dataclass(frozen=True, slots=True)
class Field:
    """What a condition is about; `name` is the metadata field's."""

    place: Place
    name: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against one value, or for `in` and `nin` against several."""

    field: Field
    operator: Operator
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Existence:
    """Whether a document has a field."""

    field: Field
    present: bool


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every part holds; without parts it holds."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part holds at least; without parts it does not."""

    parts: tuple["Filter", ...]


Filter: TypeAlias = Comparison | Existence | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Facts:
    """What a filter looks at: one version of one document."""

    document_id: str
    effective_from: datetime
    created_at: datetime
    metadata: Mapping[str, Any]


def microseconds(instant: datetime) -> int:
    """Return an instant as microseconds since 1970, which every store compares alike."""
    return (instant - _EPOCH) // _MICROSECOND


def visible(metadata: Mapping[str, Any]) -> dict[str, Plain]:
    """Return the metadata fields that filters see, in the form that every store can keep."""
    seen = {name: _plain(value) for name, value in metadata.items()}
    return {name: value for name, value in seen.items() if value is not None}


def matches(filter_: Filter, facts: Facts) -> bool:
    """Tell whether a filter holds for a version of a document."""
    if isinstance(filter_, AllOf):
        return all(matches(part, facts) for part in filter_.parts)
    if isinstance(filter_, AnyOf):
        return any(matches(part, facts) for part in filter_.parts)
    value = _value(filter_.field, facts)
    if isinstance(filter_, Existence):
        return (value is not None) is filter_.present
    return value is not None and _holds(filter_, value)


def _value(field: Field, facts: Facts) -> Scalar | Sequence[str] | None:
    if field.place is Place.METADATA:
        return _plain(facts.metadata.get(field.name))
    found: Scalar = getattr(facts, field.place.value)
    return found


def _plain(value: Any) -> Plain | None:
    if isinstance(value, str | bool | int | float):
        return value
    texts = [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
    return texts or None


def _holds(comparison: Comparison, value: Scalar | Sequence[str]) -> bool:
    operator, values = comparison.operator, comparison.values
    if operator in (Operator.EQ, Operator.IN):
        return _one_of(value, values)
    if operator in (Operator.NE, Operator.NIN):
        return not _one_of(value, values)
    return _ordered(operator, value, values[0])


def _one_of(value: Scalar | Sequence[str], values: Sequence[Scalar]) -> bool:
    entries = value if isinstance(value, list) else [value]
    return any(_same(entry, wanted) for entry in entries for wanted in values)


def _same(one: object, other: object) -> bool:
    # To Python True is 1; to JSON, and to whoever wrote the metadata, it is not.
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def _ordered(operator: Operator, value: Any, bound: Any) -> bool:
    if _kind(value) is None or _kind(value) is not _kind(bound):
        return False
    if operator in (Operator.GT, Operator.GTE):
        return bool(value > bound) or (operator is Operator.GTE and value == bound)
    return bool(value < bound) or (operator is Operator.LTE and value == bound)


def _kind(value: object) -> type | None:
    if isinstance(value, datetime):
        return datetime
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float if number else None
