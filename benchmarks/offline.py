"""A corpus in memory, searched with the product's own analysis, BM25, fusion and ranker.

For experiments and training: no database, no HTTP, one tenant. Data in BEIR's form: `corpus.jsonl`,
`queries.jsonl`, `qrels/<split>.tsv`.
"""

import asyncio
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag import analysis, bm25
from compliance_copilot.rag.contenders import place_of
from compliance_copilot.rag.ports import RankedLists
from compliance_copilot.rag.ranking import TermCounts, TermStatistics

LIMIT = 100


@dataclass(frozen=True)
class Questions:
    """Texts, the rows of the passages that answer each, and the documents those are in."""

    texts: Sequence[str]
    gold: Sequence[frozenset[int]]
    source: Sequence[frozenset[str]]

    def only(self, places: Sequence[int]) -> "Questions":
        """Return some of the questions."""
        parts = ([column[at] for at in places] for column in (self.texts, self.gold, self.source))
        return Questions(*parts)


def read(folder: Path, split: str) -> tuple[list[dict[str, Any]], Questions]:
    """Read a folder: its passages as they are, and the questions of a split with their rows."""
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    passages = [json.loads(line) for line in lines]
    rows = {passage["_id"]: row for row, passage in enumerate(passages)}
    return passages, _questions(folder, split, rows, _sources(passages))


def _sources(passages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(p.get("metadata", {}).get("document_id", p["_id"])) for p in passages]


def load(folder: Path, split: str, layout: str) -> tuple[list[Chunk], Questions]:
    """Read a folder. Layout `documents` keeps passages of one document together and in order;
    `passages` makes each a document of its own, as a plain upload does.
    """
    passages, questions = read(folder, split)
    sources = _sources(passages)
    seen: dict[str, int] = {}
    chunks = []
    for row, (passage, source) in enumerate(zip(passages, sources, strict=True)):
        ordinal = seen.setdefault(source, 0)
        seen[source] += 1
        grouped = layout == "documents"
        chunks.append(
            _chunk(row, passage, source if grouped else passage["_id"], ordinal, grouped=grouped)
        )
    return chunks, questions


def _chunk(
    row: int, passage: dict[str, Any], document_id: str, ordinal: int, *, grouped: bool
) -> Chunk:
    text = passage["text"]
    place = ordinal if grouped else 0
    return Chunk(UUID(int=row + 1), document_id, 1, place, 0, len(text), text, title="")


def _questions(
    folder: Path, split: str, rows: Mapping[str, int], sources: Sequence[str]
) -> Questions:
    gold: dict[str, set[int]] = {}
    with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8") as file:
        for entry in csv.DictReader(file, delimiter="\t"):
            if int(entry["score"]) > 0:
                gold.setdefault(entry["query-id"], set()).add(rows[entry["corpus-id"]])
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [q for q in map(json.loads, lines) if q["_id"] in gold]
    found = [frozenset(gold[q["_id"]]) for q in asked]
    return Questions(
        texts=[q["text"] for q in asked],
        gold=found,
        source=[frozenset(sources[row] for row in rows_) for rows_ in found],
    )


def embed(texts: Sequence[str]) -> np.ndarray:
    """Return the default embedder's vectors of shape (texts, 256)."""
    embedded = asyncio.run(WordllamaEmbedder().embed(texts, deadline=Deadline.after(3600)))
    return embedded.vectors


class OfflineIndex:
    """Postings and vectors of one corpus; empty chunks are not indexed."""

    def __init__(self, chunks: Sequence[Chunk], languages: Sequence[str] | None = None) -> None:
        self.chunks = [chunk for chunk in chunks if chunk.text.strip()]
        languages = languages or ["en"] * len(self.chunks)
        counted = [
            analysis.terms(c.text, language)
            for c, language in zip(self.chunks, languages, strict=True)
        ]
        self.lengths = np.array([analysis.document_length(t) for t in counted], dtype=np.float32)
        self.average_length = float(self.lengths.mean())
        rows = np.repeat(np.arange(len(counted)), [len(t) for t in counted])
        terms = np.fromiter((t for c in counted for t in c), dtype=np.int64, count=len(rows))
        order = np.argsort(terms, kind="stable")
        self._terms, self._rows = terms[order], rows[order]
        counts = (n for c in counted for n in c.values())
        self._counts = np.fromiter(counts, dtype=np.float32, count=len(rows))[order]
        relative = self.lengths[self._rows] / self.average_length
        damping = bm25.K1 * (1 - bm25.B + bm25.B * relative)
        self._weights = self._counts * (bm25.K1 + 1) / (self._counts + damping)
        self.vectors = embed([chunk.text for chunk in self.chunks])

    def search(
        self, vector: np.ndarray, terms: Mapping[int, int]
    ) -> tuple[RankedLists, TermStatistics, TermCounts]:
        """Return both lists, and what the ranker wants to know about the question's terms."""
        spans = {t: slice(*np.searchsorted(self._terms, [t, t + 1])) for t in terms}
        frequencies = {t: span.stop - span.start for t, span in spans.items()}
        statistics = TermStatistics(frequencies, len(self.chunks), self.average_length)
        scores = np.zeros(len(self.chunks), dtype=np.float32)
        for term, weight in bm25.query_weights(terms, frequencies, len(self.chunks)).items():
            scores[self._rows[spans[term]]] += weight * self._weights[spans[term]]
        dense = self._best(self.vectors @ vector, floor=-np.inf)
        sparse = self._best(scores, floor=0.0)
        rows = sorted({row for row, _ in (*dense, *sparse)})
        lists = RankedLists(
            dense=[(self.chunks[row].id, score) for row, score in dense],
            sparse=[(self.chunks[row].id, score) for row, score in sparse],
            chunks={self.chunks[row].id: self.chunks[row] for row in rows},
            places={self.chunks[row].id: place_of(self.chunks[row]) for row in rows},
        )
        return lists, statistics, self._counted(rows, spans)

    def _best(self, scores: np.ndarray, floor: float) -> list[tuple[int, float]]:
        count = min(LIMIT, len(scores))
        rows = np.argpartition(-scores, count - 1)[:count]
        rows = rows[np.lexsort((rows, -scores[rows]))]
        return [(int(row), float(scores[row])) for row in rows if scores[row] > floor]

    def _counted(self, rows: Sequence[int], spans: Mapping[int, slice]) -> TermCounts:
        wanted = np.array(rows)
        found = np.zeros((len(rows), len(spans)), dtype=np.float32)
        for column, span in enumerate(spans.values()):
            posted = self._rows[span]
            if len(posted):
                at = np.minimum(np.searchsorted(posted, wanted), len(posted) - 1)
                found[:, column] = np.where(posted[at] == wanted, self._counts[span][at], 0)
        places = {self.chunks[row].id: place for place, row in enumerate(rows)}
        return TermCounts(list(spans), places, found, self.lengths[wanted])
