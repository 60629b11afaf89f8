"""Retrieval quality through the public API: Recall@10, MAP@10, nDCG@10 and all-gold@10 by mode.

    python -m benchmarks.retrieval --data DIR [--split dev] [--layout passages|documents]
                                   [--modes basic,hybrid,agentic] [--cross-validated DIR]
                                   [--sample N] [--seed 7] [--kept DIR]

Starts a service of its own on a fresh temporary database, stores the corpus with `POST /ingest` and
asks each question with `POST /search`. Data in BEIR's form: `corpus.jsonl`, `queries.jsonl`,
`qrels/<split>.tsv`; layouts are those of `benchmarks/layouts.py`. A plain `bm25s` run over the same
passages stands beside, in the same call. `--kept DIR` keeps the database there for the next run.

The shipped ranker was trained on ObliQA's dev questions: there, `hybrid` and `agentic` flatter
themselves. `--cross-validated DIR` asks the questions of each fold of documents from a copy of the
product's code that has the `ranker.json` and `companions.json` that were trained without that fold
(`benchmarks/train_rankers.py` leaves them in DIR).
"""

import argparse
import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import pathsep
from pathlib import Path
from typing import Any

import bm25s
import httpx
import numpy as np
import Stemmer

from benchmarks import folds, harness
from benchmarks.layouts import LAYOUTS, Stored, laid_out
from benchmarks.measures import line, measured
from benchmarks.offline import Questions, read

TENANT = "bench"
BATCH_DOCUMENTS = 500
BATCH_CHARACTERS = 2_000_000
AT_ONCE = 4
DEEP = 40
"""Results asked for, so that ten passages are left when several chunks are of one."""


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
    client: httpx.AsyncClient, texts: Sequence[str], stored: Stored, mode: str
) -> list[list[int]]:
    """Return per question the rows of the passages found, best first, each once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(text: str) -> list[int]:
        body = {"query": text, "retrieval_mode": mode, "top_k": DEEP}
        async with gate:
            reply = await harness.insisted(client, "/search", body)
        assert reply.status_code == 200, reply.text[:500]
        places = ((r["document_id"], r["start"], r["end"]) for r in reply.json()["results"])
        return list(dict.fromkeys(row for place in places for row in stored.passages(*place)))

    return list(await asyncio.gather(*(ask(text) for text in texts)))


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


@dataclass(frozen=True)
class Round:
    """Questions (places) that are asked of one service, and the folder of its own rankers."""

    questions: Sequence[int]
    rankers: Path | None = None


def rounds(chosen: argparse.Namespace, questions: Questions) -> list[Round]:
    """Return one round with the shipped code, or one for each fold with rankers without it."""
    if not chosen.cross_validated:
        return [Round(range(len(questions.texts)))]
    fold_of = folds.document_folds(questions)
    return [
        Round(folds.tested(fold_of, n).tolist(), chosen.cross_validated / f"fold-{n}")
        for n in range(folds.FOLDS)
    ]


@asynccontextmanager
async def open_round(base: harness.Base, one: Round) -> AsyncIterator[harness.Service]:
    """Run the service while the context lasts; with rankers of its own, from a copy of the code."""
    if one.rankers is None:
        async with harness.open_service(base) as service:
            yield service
        return
    with tempfile.TemporaryDirectory(prefix="cc-code-") as folder:
        package = Path(shutil.copytree(harness.ROOT / "src", Path(folder) / "src"))
        (Path(folder) / "configs").symlink_to(harness.ROOT / "configs")
        for name in ("ranker.json", "companions.json"):
            shutil.copy(one.rankers / name, package / "compliance_copilot" / "rag" / name)
        path = pathsep.join((str(package), str(harness.ROOT)))
        async with harness.open_service(base, PYTHONPATH=path) as service:
            yield service


async def stored_at(service: harness.Service, base: harness.Base, stored: Stored) -> str:
    """Return a key of the tenant that has the corpus; store it when nobody has yet."""
    note = base.folder / "key"
    if note.exists():
        return note.read_text()
    key = await harness.make_tenant(service, TENANT, limits={"max_documents": None}, text=None)
    async with harness.client_of(service, key, seconds=300) as client:
        print(f"stored in {await store(client, stored):.1f} s")
    note.write_text(key)
    return key


async def run(chosen: argparse.Namespace) -> None:
    passages, questions = read(chosen.data, chosen.split)
    stored = laid_out(passages, chosen.layout)
    asked = range(len(questions.texts))
    if chosen.sample:
        asked = sorted(random.Random(chosen.seed).sample(asked, chosen.sample))
    print(f"{len(stored.documents)} documents ({chosen.layout}), {len(asked)} questions")
    modes = chosen.modes.split(",")
    found: dict[str, dict[int, list[int]]] = {mode: {} for mode in modes}
    seconds = dict.fromkeys(modes, 0.0)
    async with harness.open_base(chosen.kept) as base:
        for one in rounds(chosen, questions):
            places = sorted(set(one.questions) & set(asked))
            async with open_round(base, one) as service:
                key = await stored_at(service, base, stored)
                async with harness.client_of(service, key, seconds=300) as client:
                    for mode in modes:
                        began = time.perf_counter()
                        texts = [questions.texts[at] for at in places]
                        ranked = await ask_all(client, texts, stored, mode)
                        found[mode].update(zip(places, ranked, strict=True))
                        seconds[mode] += time.perf_counter() - began
    tell(passages, questions.only(asked), {m: [found[m][at] for at in asked] for m in modes})
    for mode in modes:
        print(f"{mode}: {len(asked) / seconds[mode]:.0f} questions/s")


def tell(
    passages: Sequence[Mapping[str, Any]],
    questions: Questions,
    ranked: Mapping[str, Sequence[Sequence[int]]],
) -> None:
    """Print the table, and what `agentic` gains over `hybrid` question by question."""
    print("| | Recall@10 | MAP@10 | nDCG@10 | all-gold@10 |\n|---|---|---|---|---|")
    print(line("bm25s", measured(plain_bm25(passages, questions), questions.gold)))
    figures = {mode: measured(found, questions.gold) for mode, found in ranked.items()}
    for mode, table in figures.items():
        print(line(mode, table), flush=True)
    if {"hybrid", "agentic"} <= figures.keys():
        print(gain(figures["hybrid"], figures["agentic"]))


def gain(before: np.ndarray, after: np.ndarray) -> str:
    """Return the gain in all-gold@10 with its interval: paired, over questions with several."""
    several = before[:, 4] >= 2
    steps = (after - before)[several, 3]
    draws = np.random.default_rng(0).choice(steps, (1000, len(steps))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    told = f"{steps.mean():+.4f} ({low:+.4f} to {high:+.4f})"
    return f"agentic - hybrid, all-gold@10, {len(steps)} questions: {told}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--split", default="dev")
    options.add_argument("--layout", choices=LAYOUTS, default="passages")
    options.add_argument("--modes", default="basic,hybrid,agentic")
    options.add_argument("--cross-validated", type=Path)
    options.add_argument("--sample", type=int, default=0)
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--kept", type=Path)
    asyncio.run(run(options.parse_args()))


if __name__ == "__main__":
    main()
