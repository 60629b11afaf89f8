"""A filter in the words of each store: a tree of JSON for our SQL, Pinecone's filter language.

The SQL side is `filter_holds` (`storage/migrations/sql/routines/4_filters.sql`); nothing is put
together as text. Instants travel as microseconds since 1970.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from compliance_copilot.rag.filters import (
    AllOf,
    AnyOf,
    Existence,
    Facts,
    Field,
    Filter,
    Operator,
    Place,
    Plain,
    Scalar,
    microseconds,
    visible,
)

_METADATA_PREFIX = "m."


def sql_filter(filter_: Filter) -> dict[str, Any]:
    """Return the tree that the SQL function `filter_holds` evaluates."""
    if isinstance(filter_, AllOf | AnyOf):
        op = "all" if isinstance(filter_, AllOf) else "any"
        return {"op": op, "parts": [sql_filter(part) for part in filter_.parts]}
    field = {"place": filter_.field.place.value, "name": filter_.field.name}
    if isinstance(filter_, Existence):
        return {"op": "exists", **field, "present": filter_.present}
    values = [_plain(value) for value in filter_.values]
    return {"op": filter_.operator.value, **field, "values": values}


def pinecone_filter(filter_: Filter) -> dict[str, Any]:
    """Return the same in Pinecone's filter language, over metadata of `pinecone_metadata`.

    Pinecone does not say what `$ne` and `$nin` make of an absent field, so presence is asked for.
    """
    if isinstance(filter_, AllOf | AnyOf):
        return _joined(filter_)
    key = pinecone_key(filter_.field)
    if isinstance(filter_, Existence):
        return {key: {"$exists": filter_.present}}
    values = [_plain(value) for value in filter_.values]
    several = filter_.operator in (Operator.IN, Operator.NIN)
    condition = {key: {f"${filter_.operator.value}": values if several else values[0]}}
    if filter_.operator in (Operator.NE, Operator.NIN):
        return {"$and": [{key: {"$exists": True}}, condition]}
    return condition


def pinecone_metadata(facts: Facts) -> dict[str, Plain]:
    """Return what a vector has to carry so that `pinecone_filter` means the same there."""
    own: dict[str, Plain] = {
        Place.DOCUMENT.value: facts.document_id,
        Place.EFFECTIVE.value: microseconds(facts.effective_from),
        Place.CREATED.value: microseconds(facts.created_at),
    }
    shown: Mapping[str, Plain] = visible(facts.metadata)
    return own | {_METADATA_PREFIX + name: value for name, value in shown.items()}


def pinecone_key(field: Field) -> str:
    """Return the metadata key under which a field is kept."""
    if field.place is Place.METADATA:
        return _METADATA_PREFIX + field.name
    return field.place.value


def _joined(filter_: AllOf | AnyOf) -> dict[str, Any]:
    every = isinstance(filter_, AllOf)
    if not filter_.parts:  # it takes no empty list: what always (or never) holds of every vector
        return {Place.DOCUMENT.value: {"$exists": every}}
    parts = [pinecone_filter(part) for part in filter_.parts]
    return {"$and" if every else "$or": parts} if len(parts) > 1 else parts[0]


def _plain(value: Scalar) -> str | int | float | bool:
    return microseconds(value) if isinstance(value, datetime) else value
