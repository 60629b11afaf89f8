"""Does the ranker harm a corpus it has never seen? Questions out of labelled bullet points.

    python benchmarks/policies.py --data DIR      (DIR holds en/*.md and de/*.md)

`- **Password History:** The system prevents ...` gives the question "Password History" and, with
label and headings taken out of the text, the chunk that answers it. Labels that occur twice are
left out. Prints fusion and ranker beside one another, chunks as the product cuts them and one
chunk per bullet.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import numpy as np

from benchmarks import offline
from benchmarks.measures import line, measured
from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag import analysis, chunking, fusion, ranking
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.ports import RankedLists

ASKED = {
    "en": ("{}", "What is required for {}?", "What does the policy say about {}?"),
    "de": ("{}", "Was ist bei {} vorgeschrieben?", "Was sagt die Richtlinie zu {}?"),
}
_LABELLED = re.compile(r"^\s*[-*] \*\*([^*]+?):?\*\*:?\s*(\S.*)$", re.MULTILINE)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    chosen = options.parse_args()
    for language, forms in ASKED.items():
        texts = {
            p.stem: p.read_text(encoding="utf-8") for p in (chosen.data / language).glob("*.md")
        }
        labels = [label for text in texts.values() for label, _ in _LABELLED.findall(text)]
        for capacity in (chunking.CAPACITY_CHARACTERS, 300):
            chunks = _chunks(texts, capacity)
            index = offline.OfflineIndex(chunks, [language] * len(chunks))
            questions = [
                (label, row)
                for text in texts.values()
                for label, body in _LABELLED.findall(text)
                if labels.count(label) == 1 and (row := _row(index.chunks, body)) is not None
            ]
            for form in forms:
                name = f"{language}, {capacity} characters, {len(questions)} x {form!r}"
                _compare(name, index, [(form.format(label), row) for label, row in questions])


def _chunks(texts: dict[str, str], capacity: int) -> list[Chunk]:
    chunks: list[Chunk] = []
    for name, text in sorted(texts.items()):
        bare = _LABELLED.sub(r"- \2", text)
        for ordinal, span in enumerate(chunking.split(bare, capacity=capacity)):
            body = re.sub(r"^#+ .*$", "", bare[span.start : span.end], flags=re.MULTILINE)
            if not body.strip():
                continue
            chunk_id = UUID(int=len(chunks) + 1)
            chunks.append(Chunk(chunk_id, name, 1, ordinal, span.start, span.end, body, name))
    return chunks


def _row(chunks: list[Chunk], body: str) -> int | None:
    start = body.strip()[:50]
    rows = [row for row, chunk in enumerate(chunks) if start in chunk.text]
    return rows[0] if len(rows) == 1 else None


def _compare(name: str, index: offline.OfflineIndex, asked: list[tuple[str, int]]) -> None:
    vectors = offline.embed([question for question, _ in asked])
    orders: dict[str, list[list[int]]] = {"dense": [], "fusion": [], "ranker": []}
    places = {chunk.id: row for row, chunk in enumerate(index.chunks)}
    for (question, _), vector in zip(asked, vectors, strict=True):
        terms = analysis.query_terms(question, ("en", "de"))
        lists = index.search(vector, terms)
        fused = fusion.fuse(lists, limit=100)
        found = {
            "dense": fusion.rank_dense(lists, limit=10),
            "fusion": fused,
            "ranker": _reranked(terms, fused, lists),
        }
        for method, scored in found.items():
            orders[method].append([places[s.chunk_id] for s in scored])
    gold = [frozenset({row}) for _, row in asked]
    figures = {method: measured(order, gold) for method, order in orders.items()}
    for method, table in figures.items():
        print(line(f"{name}: {method}", table))
    gain = (figures["ranker"] - figures["fusion"])[:, 1]
    low, high = np.quantile(
        np.random.default_rng(0).choice(gain, (1000, len(gain))).mean(axis=1), (0.025, 0.975)
    )
    print(f"    MAP@10 ranker - fusion: {gain.mean():+.4f} ({low:+.4f} to {high:+.4f})")


def _reranked(
    terms: Mapping[int, int], fused: list[Contender], lists: RankedLists
) -> list[Contender]:
    if lists.statistics is None or lists.counts is None or lists.vectors is None:
        return fused  # the question has no word that the corpus knows
    return ranking.rerank(terms, fused, lists.statistics, lists.counts, lists.vectors)


if __name__ == "__main__":
    main()
