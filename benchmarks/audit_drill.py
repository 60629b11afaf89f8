"""Row 21: the audit log tampered with 1,000 times by an owner of the database; each is found.

Edits, deletions, reorderings, cuts and rewrites of whole tails, with and without the hashes
computed anew, also of the newest entries. Each tampering is undone before the next.

python -m benchmarks.audit_drill [--times 1000] [--entries 60] [--seed N]
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.harness import new_seed
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.settings import load_settings
from compliance_copilot.storage.audit import AuditEntry
from compliance_copilot.storage.migrations.routines import SEARCH_PATH
from compliance_copilot.tenancy.audit import AuditLog, Verdict
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_server, open_service

_REHASH = """
DO $$
DECLARE
    e audit_entries;
    v_previous bytea := '';
BEGIN
    FOR e IN SELECT * FROM audit_entries WHERE tenant_id = '{tenant}' ORDER BY seq LOOP
        IF e.seq >= {start} THEN
            e.previous_hash := v_previous;
            e.hash := audit_hash(e);
            UPDATE audit_entries a SET previous_hash = e.previous_hash, hash = e.hash
            WHERE a.tenant_id = e.tenant_id AND a.seq = e.seq;
        END IF;
        v_previous := e.hash;
    END LOOP;
END
$$
"""
_PUT_BACK = "INSERT INTO audit_entries VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"


@dataclass(frozen=True, slots=True)
class Ground:
    """A chain, the owner's connection to it, and the log that judges it."""

    owner: asyncpg.Connection
    log: AuditLog
    tenant_id: TenantId

    async def rehash(self, start: int) -> None:
        """Compute the hashes anew from an entry on."""
        await self.owner.execute(_REHASH.format(tenant=self.tenant_id, start=start))

    async def change(self, statement: str, *arguments: object) -> None:
        """Run a statement about the chain."""
        await self.owner.execute(statement, self.tenant_id, *arguments)


async def edit(ground: Ground, at: int, _length: int) -> int:
    await ground.change(
        "UPDATE audit_entries SET actor = actor || 'x' WHERE tenant_id = $1 AND seq = $2", at
    )
    return at


async def edit_and_hash(ground: Ground, at: int, length: int) -> int:
    await edit(ground, at, length)
    await ground.change(
        "UPDATE audit_entries e SET hash = audit_hash(e) WHERE tenant_id = $1 AND seq = $2", at
    )
    return at


async def rewrite_from(ground: Ground, at: int, length: int) -> int:
    await edit(ground, at, length)
    await ground.rehash(at)
    return at


async def rewrite_all(ground: Ground, _at: int, length: int) -> int:
    await edit(ground, 1, length)
    await ground.rehash(1)
    return 1


async def delete(ground: Ground, at: int, _length: int) -> int:
    await ground.change("DELETE FROM audit_entries WHERE tenant_id = $1 AND seq = $2", at)
    return at


async def delete_and_close(ground: Ground, at: int, length: int) -> int:
    """Leave no gap: what follows moves up and is hashed anew."""
    await delete(ground, at, length)
    await ground.change(
        "UPDATE audit_entries SET seq = seq + 1000000 WHERE tenant_id = $1 AND seq > $2", at
    )
    await ground.change(
        "UPDATE audit_entries SET seq = seq - 1000001 WHERE tenant_id = $1 AND seq > 1000000"
    )
    await ground.rehash(at)
    return at


async def reorder(ground: Ground, at: int, length: int) -> int:
    other = at + 1 if at < length else at - 1
    first, second = min(at, other), max(at, other)
    swap = "UPDATE audit_entries SET seq = $3 WHERE tenant_id = $1 AND seq = $2"
    for old, new in ((first, 10**9), (second, first), (10**9, second)):
        await ground.change(swap, old, new)
    return first


async def reorder_and_hash(ground: Ground, at: int, length: int) -> int:
    first = await reorder(ground, at, length)
    await ground.rehash(first)
    return first


async def cut(ground: Ground, at: int, _length: int) -> int:
    await ground.change("DELETE FROM audit_entries WHERE tenant_id = $1 AND seq >= $2", at)
    return at


async def cut_the_last(ground: Ground, _at: int, length: int) -> int:
    return await cut(ground, length, length)


async def empty(ground: Ground, _at: int, length: int) -> int:
    return await cut(ground, 1, length)


async def insert(ground: Ground, at: int, _length: int) -> int:
    """Put an entry in between: what follows moves down and is hashed anew."""
    await ground.change(
        "UPDATE audit_entries SET seq = seq + 1000001 WHERE tenant_id = $1 AND seq >= $2", at
    )
    await ground.change(
        "UPDATE audit_entries SET seq = seq - 1000000 WHERE tenant_id = $1 AND seq > 1000000"
    )
    source = at - 1 if at > 1 else at + 1
    await ground.change(
        "INSERT INTO audit_entries SELECT tenant_id, $3, at, actor, actor_name, request_id,"
        " 'forged', subject, details, previous_hash, hash FROM audit_entries"
        " WHERE tenant_id = $1 AND seq = $2",
        source,
        at,
    )
    await ground.rehash(at)
    return at


KINDS = {
    "edit": edit,
    "edit, hashed anew": edit_and_hash,
    "tail rewritten": rewrite_from,
    "whole chain rewritten": rewrite_all,
    "delete": delete,
    "delete, gap closed": delete_and_close,
    "reorder": reorder,
    "reorder, hashed anew": reorder_and_hash,
    "cut": cut,
    "last entry cut": cut_the_last,
    "emptied": empty,
    "insert": insert,
}


async def tampered(ground: Ground, kind: str, chance: random.Random) -> tuple[int, Verdict]:
    """Tamper once, judge, and put everything back; return where, and the verdict."""
    kept = await ground.owner.fetch(
        "SELECT * FROM audit_entries WHERE tenant_id = $1 ORDER BY seq", ground.tenant_id
    )
    at = chance.randint(1, len(kept))
    expected = await KINDS[kind](ground, at, len(kept))
    verdict = await ground.log.verify(ground.tenant_id)
    await ground.change("DELETE FROM audit_entries WHERE tenant_id = $1")
    await ground.owner.executemany(_PUT_BACK, [tuple(row) for row in kept])
    return expected, verdict


async def run(times: int, entries: int, seed: int) -> int:
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    named: Counter[str] = Counter()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="cc-audit-") as folder:
        settings = load_settings(
            environment="test", data_dir=Path(folder), load_examples=False, database_url=None
        )
        async with open_server(settings) as addresses, open_service(settings) as service:
            acme = TenantId("acme")
            await service.tenants.create(NewTenant("acme", "Acme", {}, {}), set_by="drill")
            while (await service.audit.verify(acme)).entries < entries:
                number = chance.randrange(10**6)
                await service.audit.record(acme, AuditEntry("thing.done", f"thing:{number}"))
            path = {"search_path": SEARCH_PATH}
            owner = await asyncpg.connect(addresses.owner, server_settings=path)
            ground = Ground(owner, service.audit, acme)
            kinds = [list(KINDS)[number % len(KINDS)] for number in range(times)]
            chance.shuffle(kinds)
            for kind in kinds:
                expected, verdict = await tampered(ground, kind, chance)
                found[kind] += not verdict.valid
                named[kind] += verdict.fault is not None and verdict.fault.position == expected
            left = await service.audit.verify(acme)
            await owner.close()
    for kind, many in sorted(Counter(kinds).items()):
        print(f"{kind:<24} {many:>4} tampered  {found[kind]:>4} found  {named[kind]:>4} positions")
    print(
        f"{times} tampered, {found.total()} found, {named.total()} positions named exactly;"
        f" untouched again: valid={left.valid}; seed {seed}; {time.perf_counter() - started:.0f} s"
    )
    return 0 if found.total() == named.total() == times and left.valid else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--entries", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = new_seed() if given.seed is None else given.seed
    raise SystemExit(asyncio.run(run(given.times, given.entries, seed)))


if __name__ == "__main__":
    main()
