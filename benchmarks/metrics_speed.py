"""`GET /metrics/{tenant_id}` of a tenant with millions of rows: exact, and under 200 ms.

python -m benchmarks.metrics_speed [--rows 10000000] [--days 30]
"""

import argparse
import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import asyncpg

from benchmarks.harness import concluded, new_seed, open_base
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Database, open_database
from compliance_copilot.storage.migrations.routines import SEARCH_PATH
from compliance_copilot.tenancy.tenants import NewTenant, TenantStore

BATCH = 500_000
FILL = """
    INSERT INTO usage_events (tenant_id, request_id, attempt, operation, state, final, provider,
        model, input_tokens, output_tokens, cost_micro_usd, price_version, outcome,
        request_latency_ms, started_at, lease_expires_at)
    SELECT $1, gen_random_uuid(), 1, CASE i % 5 WHEN 0 THEN 'search' ELSE 'query' END, 'settled',
        true, 'openai', 'm', (i % 977)::int, (i % 89)::int, (i % 1009)::int, 'v', 'answered',
        (i % 313) / 7.0, $2::timestamptz + i * make_interval(secs => $3::float8), now()
    FROM generate_series($4::bigint, $5::bigint) i
"""
RAW = """
    SELECT sum(queries) AS total_queries, sum(answered_queries) AS successful_queries,
           sum(input_tokens) AS input_tokens, sum(cost_micro_usd) AS cost_micro_usd
    FROM usage_measures WHERE tenant_id = $1 AND started_at >= $2 AND started_at < $3
"""
SUMMARY = "SELECT * FROM usage_summary($1, $2, $3)"


async def run(rows: int, days: float, seed: int) -> int:
    tenant, chance = TenantId("alpha"), random.Random(seed)
    start = datetime.now(UTC) - timedelta(days=days)
    async with open_base() as base, open_database(base.serving) as database:
        new = NewTenant(tenant, "Alpha", {}, {})
        await TenantStore(database).create(new, set_by="bench")
        owner = await asyncpg.connect(base.owner, server_settings={"search_path": SEARCH_PATH})
        step = days * 86_400 / rows
        for first in range(0, rows, BATCH):
            last = min(first + BATCH, rows) - 1
            await owner.execute(FILL, tenant, start, step, first, last)
        await owner.execute("VACUUM ANALYZE usage_events")
        began = time.perf_counter()
        await owner.execute("SELECT rebuild_sums($1)", tenant)
        rebuilt = time.perf_counter() - began
        spans = [timedelta(hours=h) for h in (0.5, 1, 24, 24 * 7, 24 * days)]
        spans += [timedelta(hours=chance.uniform(0.1, 24 * days)) for _ in range(5)]
        worst, unequal = 0.0, 0
        for span in spans:
            until = start + timedelta(days=days) - timedelta(seconds=chance.uniform(0, 7200))
            slow, got = await _asked(database, tenant, until - span, until)
            worst = max(worst, slow)
            truth = await owner.fetchrow(RAW, tenant, until - span, until)
            unequal += any((truth[n] or 0) != got[n] for n in dict(truth))
        await owner.close()
    facts = {"rows": f"{rows:,}", "days": days, "windows": len(spans),
             "slowest of 3 looks at each, ms": round(worst * 1000, 1),
             "rebuilding all sums, s": round(rebuilt, 1)}  # fmt: skip
    claims = {
        "every window equals the sum of its rows": unequal == 0,
        "under 200 ms": worst < 0.2,
    }
    return concluded("metrics_speed", seed, facts, claims)


async def _asked(
    database: Database, tenant: TenantId, since: datetime, until: datetime
) -> tuple[float, asyncpg.Record]:
    slowest = 0.0
    for _ in range(3):
        began = time.perf_counter()
        row = (await database.call(tenant, SUMMARY, since, until))[0]
        slowest = max(slowest, time.perf_counter() - began)
    return slowest, row


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=new_seed())
    options = parser.parse_args()
    raise SystemExit(asyncio.run(run(options.rows, options.days, options.seed)))
