"""HNSW indexes for large tenants: made, measured and dropped, as the owner.

One partial index per tenant, without locking writers out. A tenant whose way of searching changes
gets a new corpus version, so that nothing kept from before stays in use.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from compliance_copilot.storage import vectors
from compliance_copilot.storage.migrations.routines import SEARCH_PATH

_SAMPLE = 50
_NEAREST = 100
_TENANTS = "SELECT id FROM tenant_directory ORDER BY id"
_STATE = """
    SELECT coalesce(max(c.chunks), 0) AS chunks, has_hnsw($1) AS indexed,
           (SELECT vector_dims(v.dense) FROM chunk_vectors v WHERE v.tenant_id = $1 LIMIT 1)
           AS width
    FROM corpora c WHERE c.tenant_id = $1
"""
_CREATE = """
    SELECT format('CREATE INDEX CONCURRENTLY %I ON public.chunk_vectors USING hnsw'
                  ' ((dense::halfvec(%s)) halfvec_ip_ops) WHERE tenant_id = %L',
                  hnsw_name($1), $2::integer, $1)
"""
_DROP = "SELECT format('DROP INDEX CONCURRENTLY IF EXISTS public.%I', hnsw_name($1))"
_MOVE = "UPDATE corpora SET version = version + 1 WHERE tenant_id = $1"
_MEASURE = """
    WITH asked AS MATERIALIZED (
        SELECT v.dense, k.in_force_at AS at FROM chunk_vectors v JOIN corpora k USING (tenant_id)
        WHERE v.tenant_id = $1 ORDER BY md5(v.chunk_id::text) LIMIT $2
    )
    SELECT avg((SELECT count(*) FROM unnest(nearest_by_hnsw($1, a.dense, $3::integer, a.at)) i (id)
                WHERE i.id = ANY (e.ids))::float8 / cardinality(e.ids))
    FROM asked a CROSS JOIN LATERAL (
        SELECT array_agg(n.chunk_id) AS ids FROM (
            SELECT v.chunk_id FROM chunk_vectors v
            WHERE v.tenant_id = $1 AND v.effective_until > a.at AND v.effective_from <= a.at
            ORDER BY v.dense <#> a.dense LIMIT $3) n) e
"""


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of one tenant's index: `made` or `dropped`; recall of the nearest 100."""

    tenant_id: str
    chunks: int
    state: str
    seconds: float = 0.0
    recall: float | None = None


async def index_large_tenants(owner_dsn: str, *, min_chunks: int) -> AsyncIterator[Changed]:
    """Make the index of each tenant with so many chunks, drop those of the others.

    Safe to repeat; what a stopped run left unfinished is made anew.
    """
    connection = await asyncpg.connect(owner_dsn, server_settings={"search_path": SEARCH_PATH})
    try:
        await vectors.register(connection)
        for row in await connection.fetch(_TENANTS):
            changed = await _fitted(connection, row["id"], min_chunks)
            if changed is not None:
                yield changed
    finally:
        await connection.close()


async def _fitted(
    connection: asyncpg.Connection, tenant_id: str, min_chunks: int
) -> Changed | None:
    state = await _inside(connection, tenant_id, _STATE, tenant_id)
    large = state["chunks"] >= min_chunks and state["width"] is not None
    if large is state["indexed"]:
        return None
    began = time.monotonic()
    await connection.execute(await connection.fetchval(_DROP, tenant_id))
    if not large:
        await _inside(connection, tenant_id, _MOVE, tenant_id)
        return Changed(tenant_id, state["chunks"], "dropped")
    await connection.execute(await connection.fetchval(_CREATE, tenant_id, state["width"]))
    seconds = time.monotonic() - began
    await _inside(connection, tenant_id, _MOVE, tenant_id)
    found = await _inside(connection, tenant_id, _MEASURE, tenant_id, _SAMPLE, _NEAREST)
    return Changed(tenant_id, state["chunks"], "made", seconds, found["avg"])


async def _inside(
    connection: asyncpg.Connection, tenant_id: str, statement: str, *arguments: object
) -> asyncpg.Record:
    async with connection.transaction():
        await connection.execute("SELECT set_config('app.tenant_id', $1, true)", tenant_id)
        return await connection.fetchrow(statement, *arguments)
