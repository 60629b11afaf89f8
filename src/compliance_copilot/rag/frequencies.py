"""How many chunks of a tenant have each term: rows while little changes, blocks when much does.

A frequency is the sum of its row in `term_statistics` and its value in `term_blocks`, neither ever
below zero. What a large call brings goes into the blocks, what a small one brings into rows. The
caller holds the lock on the tenant's corpus. Must not enter: texts, weights.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Connection, Row
from compliance_copilot.storage.vectors import decode_sparse_rows, encode_sparse_rows

MANY_TERMS = 4_096
"""From here on a block is cheaper than a row for each term, unless the corpus is far larger."""
_PACKED_FOR_EACH = 32
_MOST_PACKED = 4_000_000  # 8,000 in each block of pairs: a sparse vector takes 16,000
_BLOCK_TERMS = 976_563  # as in `block_of`
_BYTES_OF_A_TERM = 8
Terms: TypeAlias = NDArray[np.int32]
Steps: TypeAlias = tuple[Terms, NDArray[np.int64]]

_COUNT_TERMS = "SELECT count_terms($1, $2, $3)"
_PACKED_BYTES = """
    SELECT coalesce(sum(pg_column_size(frequencies)), 0)::bigint FROM term_blocks
    WHERE tenant_id = $1
"""
_TAKE_BELOW_ZERO = """
    DELETE FROM term_statistics
    WHERE tenant_id = $1 AND term_id = ANY ($2) AND document_frequency < 0
    RETURNING term_id, document_frequency
"""
_BLOCKS = """
    SELECT frequencies FROM term_blocks WHERE tenant_id = $1 AND block = ANY ($2)
"""
_WRITE_BLOCKS = """
    INSERT INTO term_blocks (tenant_id, block, frequencies)
    SELECT $1, * FROM unnest($2::smallint[], $3::sparsevec[])
    ON CONFLICT (tenant_id, block) DO UPDATE SET frequencies = excluded.frequencies
"""


async def count(connection: Connection, tenant_id: TenantId, came: Terms, went: Terms) -> None:
    """Move the frequencies by chunks' terms, each there once for each chunk that has it.

    A term that no chunk has any more is forgotten.
    """
    terms, steps = await asyncio.to_thread(net_steps, came, went)
    more, less = steps > 0, steps < 0
    if await _many(connection, tenant_id, int(more.sum())):
        await _fold(connection, tenant_id, terms[more], steps[more])
        terms, steps = terms[less], steps[less]
    if len(terms):
        await connection.execute(_COUNT_TERMS, tenant_id, terms.tolist(), steps.tolist())
    if less.any():
        rows = await connection.fetch(_TAKE_BELOW_ZERO, tenant_id, terms[steps < 0].tolist())
        await _fold(connection, tenant_id, *_columns(rows))


def net_steps(came: Terms, went: Terms) -> Steps:
    """Return the terms whose frequency changes, ascending, and by how much."""
    marked = np.concatenate([came << 1, (went << 1) | 1])
    marked, counts = np.unique(marked, return_counts=True)
    return _summed(marked >> 1, np.where(marked & 1, -counts, counts))


async def _many(connection: Connection, tenant_id: TenantId, count: int) -> bool:
    if count < MANY_TERMS:
        return False
    packed = await connection.fetchval(_PACKED_BYTES, tenant_id) // _BYTES_OF_A_TERM
    return bool(packed <= min(_MOST_PACKED, _PACKED_FOR_EACH * count))


async def _fold(
    connection: Connection, tenant_id: TenantId, terms: Terms, steps: NDArray[np.int64]
) -> None:
    """Bring steps into the blocks that their terms belong to."""
    touched = np.unique(terms // _BLOCK_TERMS)
    if len(touched):
        blocks = await connection.fetch(_BLOCKS, tenant_id, touched.tolist())
        wires = await asyncio.to_thread(_folded, blocks, terms, steps, touched)
        await connection.execute(_WRITE_BLOCKS, tenant_id, touched.tolist(), wires)


def _columns(rows: Sequence[Row]) -> Steps:
    terms = np.array([row["term_id"] for row in rows], dtype=np.int32)
    return terms, np.array([row["document_frequency"] for row in rows], dtype=np.int64)


def _folded(
    blocks: Sequence[Row], terms: Terms, steps: NDArray[np.int64], touched: Terms
) -> list[bytes]:
    """Return the wire form of each touched block with the steps in it."""
    known, values, _ = decode_sparse_rows([row["frequencies"] for row in blocks])
    terms = np.concatenate([known.astype(np.int32), terms])
    order = np.argsort(terms, kind="stable")
    steps = np.concatenate([values.astype(np.int64), steps])[order]
    terms, counts = _summed(terms[order], steps)
    starts = np.append(np.searchsorted(terms, touched * _BLOCK_TERMS), len(terms))
    return encode_sparse_rows(terms, counts.astype(np.float64), starts)


def _summed(terms: Terms, steps: NDArray[np.int64]) -> Steps:
    """Add up the steps of equal terms, which are neighbours; what cancels out is left out."""
    different, firsts = np.unique(terms, return_index=True)
    if not len(different):
        return different, steps
    sums = np.add.reduceat(steps, firsts)
    return different[sums != 0], sums[sums != 0]
