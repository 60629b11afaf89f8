"""Retrieval quality through the public API: Recall@10, MAP@10, nDCG@10 and all-gold@10 by mode.

    python -m benchmarks.retrieval --data DIR [--split dev] [--layout passages|documents]
                                   [--modes basic,hybrid,agentic] [--sample N] [--seed 7]

Starts a service of its own on a fresh temporary database, stores the corpus with `POST /ingest` and
asks each question with `POST /search`. Data in BEIR's form: `corpus.jsonl`, `queries.jsonl`,
`qrels/<split>.tsv`. Layout `passages`: each passage is a document; `documents`: passages of one
source are put together to the document they come from, each below its number as a heading, and a
result counts for the passages that it overlaps. A plain `bm25s` run over the same passages stands
beside, in the same call.

The shipped ranker was trained on ObliQA's dev questions: there, `hybrid` and `agentic` flatter
themselves. Held-out figures are those of `benchmarks/train_ranker.py`.
"""

import argparse
import asyncio
import random
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bm25s
import httpx
import Stemmer

from benchmarks import harness
from benchmarks.measures import line, measured
from benchmarks.offline import Questions, read
from compliance_copilot.rag.hostile import clean_text

TENANT = "bench"
BATCH_DOCUMENTS = 500
BATCH_CHARACTERS = 2_000_000
AT_ONCE = 4
DEEP = 40
"""Results asked for, so that ten passages are left when several chunks are of one."""


@dataclass(frozen=True)
class Stored:
    """What is sent: documents, and for each the first offsets of its passages with their rows."""

    documents: Sequence[Mapping[str, str]]
    starts: Mapping[str, Sequence[int]]
    rows: Mapping[str, Sequence[int]]

    def passages(self, result: Mapping[str, Any]) -> list[int]:
        """Return the rows of the passages that a result overlaps, in order."""
        starts, rows = self.starts[result["document_id"]], self.rows[result["document_id"]]
        first = max(0, bisect_right(starts, result["start"]) - 1)
        return [
            row
            for start, row in zip(starts[first:], rows[first:], strict=True)
            if start < result["end"]
        ]


def laid_out(passages: Sequence[Mapping[str, Any]], layout: str) -> Stored:
    """Return the documents of a layout; empty passages are in none."""
    texts: dict[str, list[str]] = {}
    starts: dict[str, list[int]] = {}
    rows: dict[str, list[int]] = {}
    for row, passage in enumerate(passages):
        if not passage["text"].strip():
            continue
        source = str(passage.get("metadata", {}).get("document_id", passage["_id"]))
        name = passage["_id"] if layout == "passages" else f"document-{source}"
        parts = texts.setdefault(name, [])
        starts.setdefault(name, []).append(sum(len(part) + 2 for part in parts))
        rows.setdefault(name, []).append(row)
        number = passage.get("metadata", {}).get("passage_id")
        heading = f"## {number}\n\n" if layout == "documents" and number else ""
        parts.append(heading + clean_text(passage["text"]).strip())  # offsets are of what is stored
    documents = [{"document_id": n, "text": "\n\n".join(parts)} for n, parts in texts.items()]
    return Stored(documents, starts, rows)


def batches(documents: Sequence[Mapping[str, str]]) -> list[list[Mapping[str, str]]]:
    """Return the calls of `POST /ingest`: bounded in documents and characters."""
    made: list[list[Mapping[str, str]]] = [[]]
    size = 0
    for document in documents:
        size += len(document["text"])
        if len(made[-1]) >= BATCH_DOCUMENTS or (size > BATCH_CHARACTERS and made[-1]):
            made.append([])
            size = len(document["text"])
        made[-1].append(document)
    return made


async def store(client: httpx.AsyncClient, stored: Stored) -> float:
    """Store all documents; return the seconds it took."""
    began = time.perf_counter()
    for batch in batches(stored.documents):
        reply = await client.post("/ingest", json={"documents": batch})
        assert reply.status_code == 200, reply.text[:500]
    return time.perf_counter() - began


async def ask_all(
    client: httpx.AsyncClient, questions: Questions, stored: Stored, mode: str
) -> list[list[int]]:
    """Return per question the rows of the passages found, best first, each once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(text: str) -> list[int]:
        body = {"query": text, "retrieval_mode": mode, "top_k": DEEP}
        async with gate:
            reply = await client.post("/search", json=body)
        assert reply.status_code == 200, reply.text[:500]
        found = (row for r in reply.json()["results"] for row in stored.passages(r))
        return list(dict.fromkeys(found))

    return list(await asyncio.gather(*(ask(text) for text in questions.texts)))


def plain_bm25(passages: Sequence[Mapping[str, Any]], questions: Questions) -> list[list[int]]:
    """Return what `bm25s` with its own defaults and an English stemmer finds."""
    stemmer = Stemmer.Stemmer("english")
    model = bm25s.BM25()
    texts = [passage["text"] for passage in passages]
    model.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False),
                show_progress=False)  # fmt: skip
    asked = bm25s.tokenize(questions.texts, stopwords="en", stemmer=stemmer, show_progress=False)
    found, _ = model.retrieve(asked, k=10, show_progress=False)
    return [list(map(int, rows)) for rows in found]


async def run(chosen: argparse.Namespace) -> None:
    passages, questions = read(chosen.data, chosen.split)
    if chosen.sample:
        kept = random.Random(chosen.seed).sample(range(len(questions.texts)), chosen.sample)
        questions = questions.only(kept)
    stored = laid_out(passages, chosen.layout)
    print(f"{len(stored.documents)} documents ({chosen.layout}), {len(questions.texts)} questions")
    print(
        "| | Recall@10 | MAP@10 | nDCG@10 | all-gold@10 | questions/s |\n|---|---|---|---|---|---|"
    )
    print(line("bm25s", measured(plain_bm25(passages, questions), questions.gold)) + " |")
    async with harness.open_base() as base, harness.open_service(base) as service:
        key = await harness.make_tenant(service, TENANT, limits={"max_documents": None})
        async with harness.client_of(service, key, seconds=300) as client:
            seconds = await store(client, stored)
            for mode in chosen.modes.split(","):
                began = time.perf_counter()
                ranked = await ask_all(client, questions, stored, mode)
                rate = len(ranked) / (time.perf_counter() - began)
                print(f"{line(mode, measured(ranked, questions.gold))} {rate:.0f} |", flush=True)
    print(f"stored in {seconds:.1f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--split", default="dev")
    options.add_argument("--layout", choices=("passages", "documents"), default="passages")
    options.add_argument("--modes", default="basic,hybrid,agentic")
    options.add_argument("--sample", type=int, default=0)
    options.add_argument("--seed", type=int, default=7)
    asyncio.run(run(options.parse_args()))


if __name__ == "__main__":
    main()
