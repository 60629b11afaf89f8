"""A corpus in memory, searched with the product's own analysis, BM25, fusion and ranker.

For experiments and training: no database, no HTTP, one tenant. Data in BEIR's form: `corpus.jsonl`,
`queries.jsonl`, `qrels/<split>.tsv`.
"""

import asyncio
import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from benchmarks.layouts import Stored, laid_out, source_of
from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import Chunk, NewDocument
from compliance_copilot.rag import analysis, bm25, sharing
from compliance_copilot.rag.contenders import place_of
from compliance_copilot.rag.hostile import clean_text
from compliance_copilot.rag.ports import HybridQuery, RankedLists, Vectors
from compliance_copilot.rag.scoring import (
    SPARE_CHUNKS,
    StoredChunks,
    ranked_lists,
    statistics_of,
)

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
    return passages, _questions(folder, split, rows, [source_of(p) for p in passages])


def load(folder: Path, split: str, layout: str) -> tuple["OfflineIndex", Questions]:
    """Read a folder and index it in a layout, cut into chunks as the product cuts it."""
    passages, questions = read(folder, split)
    return OfflineIndex(*_cut(laid_out(passages, layout))), questions


def _cut(stored: Stored) -> tuple[list[Chunk], list[str], list[tuple[int, ...]]]:
    chunks: list[Chunk] = []
    languages, passages = [], []
    for document in stored.documents:
        name, text = document["document_id"], clean_text(document["text"])
        work = sharing.cut(NewDocument(text, document_id=name))
        for ordinal, span in enumerate(work.spans):
            at, part = UUID(int=len(chunks) + 1), text[span.start : span.end]
            chunks.append(Chunk(at, name, 1, ordinal, span.start, span.end, part, title=name))
            languages.append(work.language)
            passages.append(tuple(stored.passages(name, span.start, span.end)))
    return chunks, languages, passages


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
    """Postings and vectors of one corpus. Searches as `adapters/hot_corpus.py` does: what is found
    is scored by the product's own `scoring.ranked_lists`.

    A chunk's row is its place in `chunks`; `passages` holds the corpus rows that it overlaps.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        languages: Sequence[str],
        passages: Sequence[tuple[int, ...]] = (),
        *,
        average_length: float | None = None,
    ) -> None:
        self.chunks, self.passages = chunks, passages
        self.rows = {chunk.id: row for row, chunk in enumerate(chunks)}
        counted = [
            analysis.terms(c.text, language) for c, language in zip(chunks, languages, strict=True)
        ]
        self.lengths = np.array([analysis.document_length(t) for t in counted], dtype=np.float32)
        self.average_length = average_length or float(self.lengths.mean())
        rows = np.repeat(np.arange(len(counted)), [len(t) for t in counted])
        terms = np.fromiter((t for c in counted for t in c), dtype=np.int64, count=len(rows))
        order = np.argsort(terms, kind="stable")
        self._terms, self._rows = terms[order], rows[order]
        counts = (n for c in counted for n in c.values())
        tf = np.fromiter(counts, dtype=np.float64, count=len(rows))[order]
        relative = self.lengths[self._rows].astype(np.float64) / self.average_length
        damping = bm25.K1 * (1 - bm25.B + bm25.B * relative)
        self._weights = (tf * (bm25.K1 + 1) / (tf + damping)).astype(np.float32)
        self.vectors = embed([c.text for c in chunks]).astype(np.float16).astype(np.float32)

    def search(self, vector: Vectors, terms: Mapping[int, int]) -> RankedLists:
        """Return both lists as the product's index does."""
        query = HybridQuery(vector, terms)
        spans = {t: slice(*np.searchsorted(self._terms, [t, t + 1])) for t in sorted(terms)}
        frequencies = {t: span.stop - span.start for t, span in spans.items()}
        statistics = statistics_of(frequencies, len(self.chunks), self.average_length)
        known = statistics.document_frequencies
        scores = np.zeros(len(self.chunks))
        for term, weight in bm25.query_weights(terms, known, len(self.chunks)).items():
            scores[self._rows[spans[term]]] += weight * self._weights[spans[term]]
        dense = _best(self.vectors @ vector.astype(np.float16).astype(np.float32))
        rows = np.union1d(dense, [row for row in _best(scores) if scores[row] > 0]).astype(int)
        chunks = [self.chunks[row] for row in rows]
        stored = StoredChunks(
            ids=[chunk.id for chunk in chunks],
            chunks={chunk.id: chunk for chunk in chunks},
            places=[place_of(chunk) for chunk in chunks],
            dense=self.vectors[rows],
            weights=self._stored_weights(rows, [spans[term] for term in known]),
            lengths=self.lengths[rows],
            statistics=statistics,
        )
        return ranked_lists(query, stored, limit=LIMIT, path="offline")

    def passages_of(self, rows: Iterable[int]) -> list[int]:
        """Return the passages that these chunks overlap, in order, each once."""
        return list(dict.fromkeys(p for row in rows for p in self.passages[row]))

    def _stored_weights(self, rows: np.ndarray, spans: Sequence[slice]) -> np.ndarray:
        found = np.zeros((len(rows), len(spans)), dtype=np.float32)
        for column, span in enumerate(spans):
            posted = self._rows[span]
            at = np.minimum(np.searchsorted(posted, rows), len(posted) - 1)
            found[:, column] = np.where(posted[at] == rows, self._weights[span][at], 0)
        return found


def _best(scores: np.ndarray) -> np.ndarray:
    count = min(LIMIT + SPARE_CHUNKS, len(scores))
    return np.argpartition(-scores, count - 1)[:count]
