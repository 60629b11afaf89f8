"""Prepared documents as the columns of statements: short ones, made beside the event loop.

A statement is prepared while questions wait, so each is small, and what it is made of is computed
in a thread. Must not enter: SQL, connections.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import orjson

from compliance_copilot.core.vocabulary import Source
from compliance_copilot.rag.chunking import Span
from compliance_copilot.rag.ports import Vectors
from compliance_copilot.rag.terms import ChunkTerms
from compliance_copilot.storage.vectors import encode_dense_rows, encode_sparse_rows

T = TypeVar("T")
Columns: TypeAlias = Sequence[Sequence[Any]]
_MOST_CHUNKS = 128
_MOST_CHARACTERS = 2**18


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document with everything that can be computed before the transaction."""

    document_id: str
    title: str
    text: str
    metadata: Mapping[str, Any]
    content_hash: bytes
    text_hash: bytes
    language: str
    spans: Sequence[Span]
    chunk_ids: Sequence[UUID]
    terms: ChunkTerms
    vectors: Vectors
    effective_from: datetime | None = None
    source: Source | None = None


def sliced(entries: Sequence[T], characters: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield entries with few enough characters together for one short step; a long one alone."""
    part: list[T] = []
    total = 0
    for entry in entries:
        if part and total + characters(entry) > _MOST_CHARACTERS:
            yield part
            part, total = [], 0
        part.append(entry)
        total += characters(entry)
    if part:
        yield part


def chunk_columns(
    documents: Sequence[PreparedDocument], numbers: Mapping[str, int]
) -> list[Columns]:
    """Return the columns of documents' chunks, a statement each; `numbers` are their versions."""
    rows = [
        (
            chunk_id,
            d.document_id,
            numbers[d.document_id],
            ordinal,
            span.start,
            span.end,
            orjson.dumps(span.headings).decode(),
            span.page,
            d.text[span.start : span.end],
        )
        for d in documents
        for ordinal, (chunk_id, span) in enumerate(zip(d.chunk_ids, d.spans, strict=True))
    ]
    return [
        [list(column) for column in zip(*rows[at : at + _MOST_CHUNKS], strict=True)]
        for at in range(0, len(rows), _MOST_CHUNKS)
    ]


def vector_columns(
    documents: Sequence[PreparedDocument],
    in_force: Mapping[str, tuple[datetime, datetime]],
    pinned_length: float,
) -> list[Columns]:
    """Return the columns of documents' vectors, a statement each.

    `in_force`: from when until when each version holds.
    """
    columns: list[list[Any]] = [[], [], [], [], [], []]
    for d in documents:
        own = (
            d.chunk_ids,
            encode_dense_rows(d.vectors),
            encode_sparse_rows(d.terms.ids, d.terms.weights(pinned_length), d.terms.starts),
            d.terms.lengths.tolist(),
            *([instant] * len(d.chunk_ids) for instant in in_force[d.document_id]),
        )
        for column, part in zip(columns, own, strict=True):
            column += part
    return [
        [column[at : at + _MOST_CHUNKS] for column in columns]
        for at in range(0, len(columns[0]), _MOST_CHUNKS)
    ]
