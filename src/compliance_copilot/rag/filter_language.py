"""Filters as a caller writes them: JSON of bounded depth and size, checked field by field.

`{"category": "policy", "rank": {"gte": 3}, "or": [{"document_id": "a"}, {"not": {"draft": true}}]}`

Names beside each other all have to hold. A bare value means `eq`. `metadata.NAME` says that a field
of the metadata is meant when its name is one of ours. What the conditions mean: `filters.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from compliance_copilot.core.errors import InvalidRequest
from compliance_copilot.rag import filters
from compliance_copilot.rag.filters import (
    AllOf,
    AnyOf,
    Comparison,
    Existence,
    Filter,
    Operator,
    Place,
)

DEEPEST_FILTER = 8
LARGEST_FILTER = 200
MOST_VALUES = 100
LONGEST_NAME = 200
LONGEST_TEXT = 1_000
_LARGEST_NUMBER = 2**53 - 1
_FIRST_YEAR, _LAST_YEAR = 1900, 9000
_PREFIX = "metadata."


def _text_only(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("It is written as text, e.g. 2026-11-23T10:00:00Z.")
    return value


def _storable(instant: datetime) -> datetime:
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise ValueError(f"It lies in the years {_FIRST_YEAR} to {_LAST_YEAR}.")
    return instant


def _scalar(value: Any) -> Any:
    if isinstance(value, str) and len(value) <= LONGEST_TEXT:
        return value
    if isinstance(value, bool) or _number_fits(value):
        return value
    raise ValueError(f"It is a text of up to {LONGEST_TEXT} characters, a number, true or false.")


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not _number_fits(value):
        raise ValueError("It is a number: only numbers and dates have an order here.")
    return value


def _number_fits(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= _LARGEST_NUMBER


def _written_out(value: Any) -> Any:
    return value if isinstance(value, dict) else {"eq": value}


def _bounded(value: Any) -> Any:
    waiting, size = [(1, value)], 0
    while waiting:
        depth, part = waiting.pop()
        size += 1
        if size > LARGEST_FILTER:
            raise ValueError(f"It may have {LARGEST_FILTER} parts.")
        if isinstance(part, dict | list):
            if depth > 2 * DEEPEST_FILTER:
                raise ValueError(f"It may be nested {DEEPEST_FILTER} levels deep.")
            inner = part.values() if isinstance(part, dict) else part
            waiting.extend((depth + 1, entry) for entry in inner)
    return value


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _absent(**constraints: Any) -> Any:
    return Field(default=None, json_schema_extra=_without_default, **constraints)


Instant = Annotated[AwareDatetime, BeforeValidator(_text_only), AfterValidator(_storable)]
_NumberShape = Annotated[float, Field(ge=-_LARGEST_NUMBER, le=_LARGEST_NUMBER)]
_TextShape = Annotated[str, Field(max_length=LONGEST_TEXT)]
_ScalarShape = _TextShape | _NumberShape | bool
_Scalar = Annotated[Any, BeforeValidator(_scalar, json_schema_input_type=_ScalarShape)]
_Number = Annotated[Any, BeforeValidator(_number, json_schema_input_type=_NumberShape)]
_Text = Annotated[str, Field(strict=True, max_length=LONGEST_TEXT)]
_Flag = Annotated[bool, Field(strict=True)]
_Several = Field(min_length=1, max_length=MOST_VALUES)


class _Condition(BaseModel):
    """Operators of one field; all of them have to hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"minProperties": 1})

    @model_validator(mode="before")
    @classmethod
    def _not_empty(cls, given: Any) -> Any:
        if given == {}:
            raise ValueError("It names no operator: eq, ne, in, nin, gt, gte, lt, lte, exists.")
        return given

    def parts(self, field: filters.Field) -> Iterator[Filter]:
        """Yield a condition of the tree for each operator."""
        for name in sorted(self.model_fields_set):
            value = getattr(self, name)
            if name == "exists":
                yield Existence(field, value)
            else:
                values = tuple(value) if isinstance(value, list) else (value,)
                yield Comparison(field, Operator(name.rstrip("_")), values)


class MetadataCondition(_Condition):
    """Conditions on a field of the metadata."""

    eq: _Scalar = _absent()
    ne: _Scalar = _absent()
    in_: Annotated[list[_Scalar], _Several] = _absent(alias="in")
    nin: Annotated[list[_Scalar], _Several] = _absent()
    gt: _Number = _absent()
    gte: _Number = _absent()
    lt: _Number = _absent()
    lte: _Number = _absent()
    exists: _Flag = _absent()


class DocumentCondition(_Condition):
    """Conditions on the document's id."""

    eq: _Text = _absent()
    ne: _Text = _absent()
    in_: Annotated[list[_Text], _Several] = _absent(alias="in")
    nin: Annotated[list[_Text], _Several] = _absent()
    exists: _Flag = _absent()


class InstantCondition(_Condition):
    """Conditions on a date of the version."""

    eq: Instant = _absent()
    ne: Instant = _absent()
    in_: Annotated[list[Instant], _Several] = _absent(alias="in")
    nin: Annotated[list[Instant], _Several] = _absent()
    gt: Instant = _absent()
    gte: Instant = _absent()
    lt: Instant = _absent()
    lte: Instant = _absent()
    exists: _Flag = _absent()


_Metadata = Annotated[
    MetadataCondition,
    BeforeValidator(_written_out, json_schema_input_type=MetadataCondition | _ScalarShape),
]
_Document = Annotated[
    DocumentCondition,
    BeforeValidator(_written_out, json_schema_input_type=DocumentCondition | _TextShape),
]
_Date = Annotated[
    InstantCondition,
    BeforeValidator(_written_out, json_schema_input_type=InstantCondition | Instant),
]


class FilterBody(BaseModel):
    """Conditions on documents: `document_id`, `effective_from`, `created_at`, metadata fields."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[Annotated[str, Field(min_length=1, max_length=200)], _Metadata]

    and_: Annotated[list["FilterBody"], _Several] = _absent(alias="and")
    or_: Annotated[list["FilterBody"], _Several] = _absent(alias="or")
    not_: "FilterBody" = _absent(alias="not")
    document_id: _Document = _absent()
    effective_from: _Date = _absent()
    created_at: _Date = _absent()

    def tree(self) -> Filter:
        """Return the frozen tree; `not` is pushed down to the conditions."""
        parts: list[Filter] = []
        if self.and_:
            parts += [part.tree() for part in self.and_]
        if self.or_:
            parts.append(AnyOf(tuple(part.tree() for part in self.or_)))
        if self.not_:
            parts.append(negated(self.not_.tree()))
        for place in (Place.DOCUMENT, Place.EFFECTIVE, Place.CREATED):
            condition: _Condition | None = getattr(self, place.value)
            if condition is not None:
                parts += condition.parts(filters.Field(place))
        for name, found in sorted((self.__pydantic_extra__ or {}).items()):
            parts += found.parts(filters.Field(Place.METADATA, name.removeprefix(_PREFIX)))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


Filters = Annotated[FilterBody, BeforeValidator(_bounded, json_schema_input_type=FilterBody)]

_OPPOSITES = {
    Operator.EQ: Operator.NE,
    Operator.IN: Operator.NIN,
    Operator.GT: Operator.LTE,
    Operator.LT: Operator.GTE,
}
_OPPOSITES |= {other: one for one, other in _OPPOSITES.items()}


def negated(filter_: Filter) -> Filter:
    """Return the opposite of a filter, for documents that have its fields."""
    if isinstance(filter_, Comparison):
        return Comparison(filter_.field, _OPPOSITES[filter_.operator], filter_.values)
    if isinstance(filter_, Existence):
        return Existence(filter_.field, not filter_.present)
    parts = tuple(negated(part) for part in filter_.parts)
    return AnyOf(parts) if isinstance(filter_, AllOf) else AllOf(parts)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What of the corpus a question is put to: all that a key of a cache needs beside the rest."""

    filters: Filter | None = None
    as_of: datetime | None = None


EVERYTHING = Narrowing()


class _Narrowed(BaseModel):
    filters: Filters | None = None
    as_of: AwareDatetime | None = None


def narrowed(
    filters: Mapping[str, Any] | None = None, *, as_of: datetime | None = None
) -> Narrowing:
    """Return what a library's question is narrowed to. Raises InvalidRequest naming the field."""
    try:
        read = _Narrowed.model_validate({"filters": filters, "as_of": as_of})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(f"{field}: {reason}", field=field) from None
    return Narrowing(read.filters.tree() if read.filters else None, read.as_of)


def spoken(filter_: Filter) -> dict[str, Any]:
    """Return a tree in this language again, for telling what was applied."""
    if isinstance(filter_, AllOf | AnyOf):
        word = "and" if isinstance(filter_, AllOf) else "or"
        return {word: [spoken(part) for part in filter_.parts]}
    place = filter_.field.place
    name = filter_.field.name if place is Place.METADATA else place.value
    if isinstance(filter_, Existence):
        return {name: {"exists": filter_.present}}
    values: Sequence[Any] = filter_.values
    several = filter_.operator in (Operator.IN, Operator.NIN)
    return {name: {filter_.operator.value: list(values) if several else values[0]}}
