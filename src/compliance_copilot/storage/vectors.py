"""pgvector's binary wire formats, so that vectors travel as bytes and not as text.

halfvec: int16 dimensions, int16 0, then big-endian float16. sparsevec: int32 dimensions, int32
non-zeros, int32 0, then int32 indices (0-based on the wire, ascending), then float32 values.
Source: `halfvec_recv` and `sparsevec_recv` of pgvector 0.8.
"""

import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

import numpy as np
from asyncpg.pgproto import pgproto
from numpy.typing import NDArray

SPARSE_DIMENSIONS = 1_000_000_000
_SPARSE_HEAD = 12


def encode_dense(vector: NDArray[np.float32]) -> bytes:
    """Return the wire form of a vector of shape (dimensions,)."""
    return encode_dense_rows(vector[None, :])[0]


def encode_dense_rows(vectors: NDArray[np.float32]) -> list[bytes]:
    """Return the wire form of each row of vectors of shape (rows, dimensions)."""
    head = struct.pack(">hh", vectors.shape[1], 0)
    raw = vectors.astype(">f2").tobytes()
    size = 2 * vectors.shape[1]
    return [head + raw[at : at + size] for at in range(0, len(raw), size)]


def decode_dense(wire: bytes) -> NDArray[np.float32]:
    """Return the vector of shape (dimensions,) from its wire form."""
    return np.frombuffer(wire, dtype=">f2", offset=4).astype(np.float32)


def encode_sparse(weights: Mapping[int, float]) -> bytes:
    """Return the wire form of weights by term id (1-based, at most 1e9)."""
    ids = np.array(sorted(weights), dtype=np.int64)
    values = np.array([weights[i] for i in ids.tolist()], dtype=np.float64)
    return encode_sparse_rows(ids, values, np.array([0, len(ids)]))[0]


def encode_sparse_rows(
    ids: NDArray[np.integer[Any]], weights: NDArray[np.float64], starts: NDArray[np.int64]
) -> list[bytes]:
    """Return the wire form of each row: its ids, ascending, and weights are those at
    `starts[i]:starts[i + 1]`.
    """
    raw_ids, raw_weights = (ids - 1).astype(">i4").tobytes(), weights.astype(">f4").tobytes()
    ends = (4 * starts).tolist()
    return [
        struct.pack(">iii", SPARSE_DIMENSIONS, (end - at) // 4, 0)
        + raw_ids[at:end]
        + raw_weights[at:end]
        for at, end in pairwise(ends)
    ]


def decode_sparse_rows(
    wires: Sequence[bytes],
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return ids and weights of rows one after another, and `starts` as above."""
    counts = [(len(wire) - _SPARSE_HEAD) // 8 for wire in wires]
    raw_ids = b"".join(
        w[_SPARSE_HEAD : _SPARSE_HEAD + 4 * n] for w, n in zip(wires, counts, strict=True)
    )
    raw_weights = b"".join(w[_SPARSE_HEAD + 4 * n :] for w, n in zip(wires, counts, strict=True))
    ids = np.frombuffer(raw_ids, dtype=">i4").astype(np.int64) + 1
    weights = np.frombuffer(raw_weights, dtype=">f4").astype(np.float32)
    return ids, weights, np.cumsum([0, *counts], dtype=np.int64)


def decode_sparse_arrays(wire: bytes) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return term ids (1-based, ascending) and their weights from the wire form."""
    (_, count, _) = struct.unpack_from(">iii", wire)
    indices = np.frombuffer(wire, dtype=">i4", count=count, offset=12).astype(np.int64) + 1
    values = np.frombuffer(wire, dtype=">f4", count=count, offset=12 + 4 * count)
    return indices, values.astype(np.float32)


def decode_sparse(wire: bytes) -> dict[int, float]:
    """Return weights by term id (1-based) from the wire form."""
    indices, values = decode_sparse_arrays(wire)
    return dict(zip(indices.tolist(), values.tolist(), strict=True))


def decode_ids(raw: bytes) -> list[UUID]:
    """Return the ids in their 16 bytes each, as the driver makes them: quick to hash."""
    return [pgproto.UUID(raw[start : start + 16]) for start in range(0, len(raw), 16)]


async def register(connection: Any) -> None:
    """Teach one connection to pass both types through as bytes."""
    for name in ("halfvec", "sparsevec"):
        await connection.set_type_codec(
            name, schema="public", encoder=bytes, decoder=bytes, format="binary"
        )
