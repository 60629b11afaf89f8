"""pgvector's binary wire formats, so that vectors travel as bytes and not as text.

halfvec: int16 dimensions, int16 0, then big-endian float16. sparsevec: int32 dimensions, int32
non-zeros, int32 0, then int32 indices (0-based on the wire, ascending), then float32 values.
Source: `halfvec_recv` and `sparsevec_recv` of pgvector 0.8.
"""

import struct
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
from asyncpg.pgproto import pgproto
from numpy.typing import NDArray

SPARSE_DIMENSIONS = 1_000_000_000


def encode_dense(vector: NDArray[np.float32]) -> bytes:
    """Return the wire form of a vector of shape (dimensions,)."""
    return struct.pack(">hh", len(vector), 0) + vector.astype(">f2").tobytes()


def decode_dense(wire: bytes) -> NDArray[np.float32]:
    """Return the vector of shape (dimensions,) from its wire form."""
    return np.frombuffer(wire, dtype=">f2", offset=4).astype(np.float32)


def encode_sparse(weights: Mapping[int, float]) -> bytes:
    """Return the wire form of weights by term id (1-based, at most 1e9)."""
    indices = np.fromiter(weights.keys(), dtype=np.int64, count=len(weights))
    values = np.fromiter(weights.values(), dtype=np.float32, count=len(weights))
    return encode_sparse_arrays(indices, values)


def encode_sparse_arrays(indices: NDArray[np.int64], values: NDArray[np.floating[Any]]) -> bytes:
    """Return the wire form of weights `values` at term ids `indices`, in any order."""
    order = np.argsort(indices)
    head = struct.pack(">iii", SPARSE_DIMENSIONS, len(indices), 0)
    wire_indices = (indices[order] - 1).astype(">i4").tobytes()
    return head + wire_indices + values[order].astype(">f4").tobytes()


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
