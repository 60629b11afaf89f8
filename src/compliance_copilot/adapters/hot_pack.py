"""From the rows of a corpus to the arrays of its file. Must not enter: files, searches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from compliance_copilot.rag.filters import microseconds
from compliance_copilot.rag.reading import RULES
from compliance_copilot.storage.database import Row
from compliance_copilot.storage.vectors import decode_dense, decode_sparse_rows

_NONE: Mapping[bytes, bytes] = {}


def pack(rows: Sequence[Row], known: Mapping[bytes, bytes] = _NONE) -> dict[str, NDArray[Any]]:
    """Return the arrays of the corpus in the rows of `load_corpus`; there must be one or more.

    `known`: what was read of its chunks before, by id.
    """
    first = rows[0]
    keys = sorted({(row["document_id"], row["version"]) for row in rows})
    numbers = {key: number for number, key in enumerate(keys)}
    documents = [numbers[row["document_id"], row["version"]] for row in rows]
    by_number = dict(zip(documents, rows, strict=True))
    return {
        "numbers": np.array([first["chunk_count"]], dtype=np.int64),
        "pinned_length": np.array([first["pinned_length"]], dtype=np.float64),
        "ids": np.frombuffer(b"".join(row["id"].bytes for row in rows), np.uint8).reshape(-1, 16),
        "vectors": np.stack([decode_dense(row["dense"]) for row in rows]),
        "lengths": np.array([row["length"] for row in rows], dtype=np.float32),
        "ordinals": np.array([row["ordinal"] for row in rows], dtype=np.int32),
        "documents": np.array(documents, dtype=np.int32),
        **_inverted(rows),
        **_records("chunk", [_chunk_record(row) for row in rows]),
        **_records("document", [_document_record(by_number[n]) for n in range(len(keys))]),
        **reading_arrays([known.get(row["id"].bytes, b"") for row in rows]),
    }


def reading_arrays(kept: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Return as arrays what is kept of reading each chunk, row by row; empty for an unread one."""
    return {**_records("reading", kept), "reading_rules": np.frombuffer(RULES, dtype=np.uint8)}


def _inverted(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """Return postings as columns: those of `terms[i]` lie in `posted[spans[i]:spans[i + 1]]`."""
    terms, weights, starts = decode_sparse_rows([row["sparse"] for row in rows])
    owners = np.repeat(np.arange(len(rows), dtype=np.int32), np.diff(starts))
    order = np.argsort(terms, kind="stable")
    known, firsts = np.unique(terms[order], return_index=True)
    spans = np.append(firsts, len(terms)).astype(np.int64)
    return {
        "terms": known,
        "spans": spans,
        # All chunks in force are here, and only those: as many as the tenant's statistics count.
        "frequencies": np.diff(spans).astype(np.int32),
        "posted": owners[order],
        "weights": weights[order],
    }


def _records(kind: str, records: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    ends = np.cumsum([0, *map(len, records)], dtype=np.int64)
    return {
        f"{kind}_records": np.frombuffer(b"".join(records), dtype=np.uint8),
        f"{kind}_spans": ends,
    }


def _chunk_record(row: Row) -> bytes:
    return orjson.dumps(
        {
            "start": row["start_offset"],
            "end": row["end_offset"],
            "page": row["page"],
            "headings": row["headings"],
            "text": row["text"],
        }
    )


def _document_record(row: Row) -> bytes:
    return orjson.dumps(
        {
            "document_id": row["document_id"],
            "version": row["version"],
            "title": row["title"],
            "metadata": orjson.loads(row["metadata"]),
            "effective_from": microseconds(row["effective_from"]),
            "created_at": microseconds(row["created_at"]),
        }
    )
