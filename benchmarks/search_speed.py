"""How fast the search itself is: tenants x chunks, from mapped files and in SQL, beside the floor.

    python benchmarks/search_speed.py [--grid 100x1000 10x10000 1x200000] [--seed 1] [--hnsw]

Makes its own corpora (Zipf-distributed terms, clustered unit vectors) in a PostgreSQL of its own.
`dot` is a bare numpy product over the same matrix. Times are per search of both lists (dense and
BM25) with fusion and ranker; no embedding, no ledger. `--hnsw` compares dense search alone, exact
and over an HNSW index with iterative scan, for the last row of the grid, and prints the recall.
"""

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from compliance_copilot.adapters.corpus_files import CorpusFiles
from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.adapters.pgvector_index import PgvectorIndex
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag import bm25
from compliance_copilot.rag.fusion import fuse
from compliance_copilot.rag.ports import HybridQuery, VectorIndex
from compliance_copilot.rag.ranking import DEPTH_OF_RERANKING, rerank
from compliance_copilot.storage import vectors
from compliance_copilot.storage.database import open_database
from compliance_copilot.storage.migrations.routines import SEARCH_PATH

DIMENSIONS, WORDS, CHUNK_WORDS, CHUNKS_PER_DOCUMENT = 256, 30_000, 60, 20
LIMIT = 100
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Made:
    """A tenant's corpus as it was made: for questions, and for the floor."""

    tenant_id: TenantId
    matrix: np.ndarray
    queries: list[HybridQuery]


async def make(dsn: str, tenant_id: str, chunks: int, numbers: np.random.Generator) -> Made:
    """Store a corpus of this size and return some questions to it."""
    centres = numbers.normal(size=(max(8, chunks // 200), DIMENSIONS))
    matrix = centres[numbers.integers(0, len(centres), chunks)] + 0.8 * numbers.normal(
        size=(chunks, DIMENSIONS)
    )
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
    words = np.minimum(numbers.zipf(1.3, (chunks, CHUNK_WORDS)), WORDS)
    counted = [Counter(row) for row in words.tolist()]
    await _store(dsn, tenant_id, matrix, counted)
    queries = []
    for row in numbers.integers(0, chunks, 200).tolist():
        asked = matrix[row] + 0.5 * numbers.normal(size=DIMENSIONS) / np.sqrt(DIMENSIONS)
        terms = {int(t): 1 for t in numbers.choice(words[row], 12)}
        vector = (asked / np.linalg.norm(asked)).astype(np.float32)
        queries.append(HybridQuery(vector, terms, 1))
    return Made(TenantId(tenant_id), matrix, queries)


async def _store(dsn: str, tenant_id: str, matrix: np.ndarray, counted: list[Counter[int]]) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"search_path": SEARCH_PATH})
    try:
        await vectors.register(connection)
        await connection.execute("SET session_replication_role = replica")
        chunks = len(counted)
        documents = -(-chunks // CHUNKS_PER_DOCUMENT)
        await connection.execute("INSERT INTO tenant_directory (id) VALUES ($1)", tenant_id)
        await connection.execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, $1)", tenant_id)
        await connection.execute(
            "INSERT INTO corpora (tenant_id, version, documents, chunks, total_length,"
            " pinned_length) VALUES ($1, 1, $2, $3, $4, $5)",
            tenant_id, documents, chunks, chunks * CHUNK_WORDS, float(CHUNK_WORDS),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO document_versions (tenant_id, document_id, version, title, text,"
            " content_hash, language, chunks, effective_from) SELECT $1, 'd' || n, 1, 'D', 'x',"
            " sha256('x'), 'en', $3, '2020-01-01' FROM generate_series(0, $2 - 1) n",
            tenant_id, documents, CHUNKS_PER_DOCUMENT,
        )  # fmt: skip
        ids = [UUID(int=n + 1) for n in range(chunks)]
        await connection.copy_records_to_table(
            "chunks", schema_name="public",
            columns=["tenant_id", "id", "document_id", "version", "ordinal", "start_offset",
                     "end_offset", "text"],
            records=(
                (tenant_id, i, f"d{n // CHUNKS_PER_DOCUMENT}", 1, n % CHUNKS_PER_DOCUMENT, 0, 400,
                 f"chunk {n} " + "of text " * 50)
                for n, i in enumerate(ids)
            ),
        )  # fmt: skip
        early = await connection.fetchval("SELECT '2020-01-01'::timestamptz")
        await connection.copy_records_to_table(
            "chunk_vectors", schema_name="public",
            columns=["tenant_id", "chunk_id", "dense", "sparse", "length", "effective_from"],
            records=(
                (tenant_id, i, vectors.encode_dense(matrix[n]),
                 vectors.encode_sparse(bm25.document_weights(
                     counted[n], length=CHUNK_WORDS, average_length=CHUNK_WORDS)),
                 CHUNK_WORDS, early)
                for n, i in enumerate(ids)
            ),
        )  # fmt: skip
        frequencies = Counter(term for terms in counted for term in terms)
        await connection.copy_records_to_table(
            "term_statistics", schema_name="public",
            records=[(tenant_id, term, count) for term, count in frequencies.items()],
        )  # fmt: skip
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def search(index: VectorIndex, made: Made, query: HybridQuery) -> None:
    """One search as the retriever makes it."""
    lists = await index.search(made.tenant_id, query, limit=LIMIT, deadline=Deadline.after(600))
    fused = fuse(lists, limit=DEPTH_OF_RERANKING)
    assert lists.statistics is not None
    assert lists.counts is not None
    assert lists.vectors is not None
    best = rerank(query.terms, fused, lists.statistics, lists.counts, lists.vectors)[:5]
    assert [lists.chunks[contender.chunk_id] for contender in best]


Ask = Callable[[Made, HybridQuery], Awaitable[None]]


async def timed(tenants: list[Made], ask: Ask, seconds: float) -> str:
    """Ask tenant after tenant for so long, one at a time; return the figures."""
    times: list[float] = []
    began, spent = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds or len(times) < 20:
        made = tenants[len(times) % len(tenants)]
        start = time.perf_counter()
        await ask(made, made.queries[len(times) // len(tenants) % len(made.queries)])
        times.append(1000 * (time.perf_counter() - start))
    p50, p95, p99 = np.quantile(times, (0.5, 0.95, 0.99))
    own = 1000 * (time.process_time() - spent) / len(times)
    return f"{p50:8.2f} {p95:8.2f} {p99:8.2f} {1000 / np.mean(times):9.0f} {own:8.2f}"


async def row(base: harness.Base, tenants: list[Made], seconds: float) -> None:
    """Print one row of the grid, three lines of it."""
    name = f"{len(tenants)} x {len(tenants[0].matrix)}"
    with tempfile.TemporaryDirectory(prefix="cc-hot-") as folder:
        async with open_database(base.serving) as database:
            cold = PgvectorIndex(database)
            files = CorpusFiles(Path(folder), 4096 * MEBIBYTE)
            hot = HotIndex(cold, database, files)

            async def dot(made: Made, query: HybridQuery) -> None:
                made.matrix @ query.dense

            async def in_sql(made: Made, query: HybridQuery) -> None:
                await search(cold, made, query)

            async def mapped(made: Made, query: HybridQuery) -> None:
                await search(hot, made, query)

            print(f"{name:<14} {'dot':<5} {await timed(tenants, dot, seconds / 4)}")
            print(f"{name:<14} {'sql':<5} {await timed(tenants, in_sql, seconds)}")
            began = time.perf_counter()
            for made in tenants:
                await search(hot, made, made.queries[0])
            await hot.settled()
            built = (time.perf_counter() - began) / len(tenants)
            assert hot.mapped == len(tenants)
            print(f"{name:<14} {'hot':<5} {await timed(tenants, mapped, seconds)}", end="")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            size = files.nbytes() / MEBIBYTE
            print(f"   files {size:.0f} MiB, {built:.2f} s to build one, peak RSS {peak:.0f} MiB")
            await hot.close()


async def hnsw(base: harness.Base, made: Made) -> None:
    """Compare dense search alone: exact, and over an HNSW index with iterative scan."""
    path = {"search_path": SEARCH_PATH, "jit": "off"}
    connection = await asyncpg.connect(base.owner, server_settings=path)
    await vectors.register(connection)
    question = (
        "SELECT chunk_id FROM chunk_vectors WHERE tenant_id = 'big' AND effective_until > now()"
        " ORDER BY dense::halfvec(256) <#> $1::halfvec(256) LIMIT 100"
    )
    asked = [vectors.encode_dense(query.dense) for query in made.queries[:40]]

    async def ask() -> tuple[list[set[UUID]], float]:
        found, times = [], []
        for vector in asked:
            start = time.perf_counter()
            found.append({r[0] for r in await connection.fetch(question, vector)})
            times.append(1000 * (time.perf_counter() - start))
        return found, float(np.median(times))

    exact, slow = await ask()
    print(f"dense alone in SQL, exact: median {slow:.1f} ms")
    await connection.execute("SET maintenance_work_mem = '768MB'")
    await connection.execute("SET max_parallel_maintenance_workers = 1")
    began = time.perf_counter()
    await connection.execute(
        "CREATE INDEX big_hnsw ON chunk_vectors USING hnsw ((dense::halfvec(256)) halfvec_ip_ops)"
        " WHERE tenant_id = 'big'"
    )
    size = await connection.fetchval("SELECT pg_relation_size('big_hnsw') / 1048576")
    print(f"HNSW (m 16, ef_construction 64): {time.perf_counter() - began:.0f} s, {size} MiB")
    await connection.execute("SET hnsw.iterative_scan = relaxed_order")
    for width in (40, 100, 200, 400):
        await connection.execute(f"SET hnsw.ef_search = {width}")
        found, quick = await ask()
        recall = np.mean([len(a & b) / len(b) for a, b in zip(found, exact, strict=True)])
        print(f"  ef_search {width:>3}: median {quick:6.1f} ms, recall@100 {recall:.4f}")
    await connection.close()


async def run(grid: list[str], seed: int, seconds: float, *, with_hnsw: bool) -> None:
    """Print the table, and what HNSW brings in the last row."""
    numbers = np.random.default_rng(seed)
    print(
        f"seed {seed}; milliseconds p50, p95, p99; searches a second, one at a time; own CPU in ms"
    )
    async with harness.open_base() as base:
        for number, cell in enumerate(grid):
            count, chunks = map(int, cell.split("x"))
            last = number == len(grid) - 1
            names = ["big"] if last and count == 1 else [f"g{number}-{n}" for n in range(count)]
            tenants = [await make(base.owner, name, chunks, numbers) for name in names]
            await row(base, tenants, seconds)
            if with_hnsw and last:
                await hnsw(base, tenants[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", nargs="+", default=["100x1000", "10x10000", "1x200000"])
    parser.add_argument("--short", action="store_true", help="5x1000 1x10000, under a minute")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hnsw", action="store_true")
    given = parser.parse_args()
    cells, spent = (["5x1000", "1x10000"], 3.0) if given.short else (given.grid, given.seconds)
    asyncio.run(run(cells, given.seed, spent, with_hnsw=given.hnsw))
