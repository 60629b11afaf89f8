"""kill -9 of the service at random points of erasures; afterwards nothing of them may be left.

Documents and whole tenants, each with a word of its own, in answers, conversations, caches, hot
files and, of a whole tenant, in files that are being read. The owner looks through every column of
every table of the database for that word, and through the files of the service: as soon as the
receipt is signed, and once more for all of them some time after the last start.

python -m benchmarks.erasure_drill --kills 20
"""

import argparse
import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.harness import (
    ADMIN_KEY,
    Base,
    Service,
    client_of,
    concluded,
    make_tenant,
    new_seed,
    open_base,
    open_service,
    until,
)

DOCUMENTS = 20
FILES = 60
LEASES = {"QUERY_TIMEOUT_SECONDS": "5", "INGEST_TIMEOUT_SECONDS": "10"}
KEPT = ("erasures", "audit_entries")  # receipts name the caller's id; the log names ids alone
TABLES = """
    SELECT c.relname FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
"""
OPEN = "SELECT count(*) FROM erasures WHERE state <> 'finished'"


def documents_of(word: str) -> list[dict[str, str]]:
    """Documents whose ids, titles and texts carry the word."""
    return [
        {
            "document_id": f"{word}-{n}",
            "title": f"Policy {n} of {word}",
            "text": "\n\n".join(
                f"## Rule {part}\n\nThe archive of {word} keeps record {n} for {part} years."
                for part in range(1, 12)
            ),
        }
        for n in range(DOCUMENTS)
    ]


async def fill(service: Service, tenant_id: str, key: str, *, whole: bool) -> None:
    """Store documents and ask about them, so that they are in answers and in memory."""
    word = f"word{tenant_id}"
    async with client_of(service, key) as client:
        stored = await client.post("/ingest", json={"documents": documents_of(word)})
        assert stored.status_code == 200, stored.text
        for n in (0, 0, 1, 2):  # the second time from the cache
            query = f"How long does the archive of {word} keep record {n}?"
            question = {"query": query, "conversation_id": f"talk-{word}"}
            asked = await client.post("/query", json=question)
            assert asked.status_code == 200, asked.text
        if whole:
            files = [("files", (f"{word}-{n}.txt", f"{word} {n}".encode())) for n in range(FILES)]
            sent = await client.post("/ingest/files", files=files)
            assert sent.status_code == 202, sent.text


async def erase(service: Service, tenant_id: str, key: str, *, whole: bool) -> None:
    """Ask for the erasures, until the service is gone."""
    try:
        async with client_of(service, ADMIN_KEY if whole else key) as client:
            if whole:
                await client.delete(f"/tenants/{tenant_id}")
                return
            for document in documents_of(f"word{tenant_id}"):
                await client.delete(f"/documents/{document['document_id']}")
    except httpx.TransportError:
        return


async def residue(base: Base, word: str) -> list[str]:
    """Return the tables and files in which the word stands."""
    found = []
    for row in await base.rows(TABLES):
        table = row["relname"]
        if table not in KEPT and await base.value(
            f"SELECT EXISTS (SELECT FROM {table} t WHERE t::text LIKE $1)",  # noqa: S608
            f"%{word}%",
        ):
            found.append(table)
    return found + await asyncio.to_thread(_files_with, base.folder / "service", word)


def _files_with(folder: Path, word: str) -> list[str]:
    return [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and "audit" not in file.parts and word.encode() in file.read_bytes()
    ]


async def finish(service: Service, tenant_id: str, key: str, *, whole: bool) -> None:
    """Ask again for what the killed process had not begun."""
    async with client_of(service, ADMIN_KEY if whole else key) as client:
        if whole:
            await client.delete(f"/tenants/{tenant_id}")
            return
        for document in documents_of(f"word{tenant_id}"):
            await client.delete(f"/documents/{document['document_id']}")


async def run(options: argparse.Namespace) -> int:
    chance = random.Random(options.seed)
    left: dict[str, list[str]] = {}
    waits: list[float | None] = []
    began = time.monotonic()
    async with open_base() as base, open_service(base, **LEASES) as service:
        for number in range(options.kills):
            tenant_id, whole = f"t{number}", bool(number % 2)
            key = await make_tenant(service, tenant_id, config={"cache": True})
            await fill(service, tenant_id, key, whole=whole)
            erasing = asyncio.create_task(erase(service, tenant_id, key, whole=whole))
            await asyncio.sleep(chance.uniform(0.0, 0.15 if whole else 0.6))
            service.kill()
            await erasing
            await service.start()
            began = time.monotonic()
            await finish(service, tenant_id, key, whole=whole)
            done = await until(lambda: _finished(base), seconds=60.0)
            waits.append(None if done is None else time.monotonic() - began)
            if found := await residue(base, f"word{tenant_id}"):
                left[tenant_id] = found
        await asyncio.sleep(max(0.0, options.settle_seconds - (time.monotonic() - began)))
        for number in range(options.kills):
            if found := await residue(base, f"wordt{number}"):
                left[f"t{number} in the end"] = found
        receipts = await base.rows("SELECT what, signature, probe FROM erasures")
    return _judged(options, left, waits, receipts)


async def _finished(base: Base) -> bool:
    return int(await base.value(OPEN)) == 0


def _judged(
    options: argparse.Namespace,
    left: dict[str, list[str]],
    waits: list[float | None],
    receipts: list[Any],
) -> int:
    facts = {
        "kills": options.kills,
        "receipts": len(receipts),
        "of whole tenants": sum(row["what"] == "tenant" for row in receipts),
        "slowest to be finished after the start, s": round(max((w or 60.0) for w in waits), 2),
        "residue": left or "none",
    }
    claims = {
        "nothing of it is found anywhere": not left,
        "every erasure is finished within 60 s": all(wait is not None for wait in waits),
        "every receipt is signed and its probe is empty": all(
            row["signature"] and row["probe"] == "{}" for row in receipts
        ),
        "tenants and documents were erased": {row["what"] for row in receipts}
        == ({"document", "tenant"} if options.kills > 1 else {"document"}),
    }
    return concluded("erasure_drill", options.seed, facts, claims)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--settle-seconds",
        type=float,
        default=0.0,
        help="look once more so long after the last start",
    )
    parser.add_argument("--seed", type=int, default=new_seed())
    raise SystemExit(asyncio.run(run(parser.parse_args())))
