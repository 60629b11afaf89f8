"""The second look: a small learned ranker over the best 100 chunks of the fusion.

A boosted ensemble of small trees (LambdaMART, Burges 2010), trained by
`benchmarks/train_ranker.py`, stored as numbers in `ranker.json` and evaluated with numpy alone. It
sees `evidence.FEATURES` only. Must not enter: SQL, vendor SDKs, anything that names a corpus.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.core.vocabulary import ScoredChunk
from compliance_copilot.rag import analysis, bm25
from compliance_copilot.rag.evidence import FEATURES, Candidates, Floats, QuestionTerms, features

DEPTH_OF_RERANKING = 100
"""How many chunks of the fusion are looked at again; the rest keep their order behind them."""


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """The tenant's own numbers for one question: df per term, number of chunks, average length."""

    document_frequencies: Mapping[int, int]
    chunk_count: int
    average_length: float


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often each of `terms` (columns) occurs in each chunk (rows), and the chunks' lengths.

    A hot index reads this off its arrays; `counted` makes the same out of the chunks' texts.
    """

    terms: Sequence[int]
    rows: Mapping[UUID, int]
    frequencies: Floats
    lengths: Floats


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees of equal shape, packed: (trees, nodes) splits and (trees, leaves) values.

    `paths[t, n, l]` is +1 where leaf l lies left of node n, -1 where right, 0 elsewhere; a row is
    in the leaf whose nodes all decided its way, `depths[t, l]` of them.
    """

    splits: NDArray[np.int64]
    thresholds: Floats
    paths: Floats
    depths: Floats
    values: Floats
    scale: float
    shift: float

    def score(self, rows: Floats) -> Floats:
        """Return the sum over all trees for each row, before calibration."""
        left = rows.T[self.splits] <= self.thresholds[:, :, None]
        decided = np.where(left, np.float32(1.0), np.float32(-1.0))
        agreed = np.matmul(self.paths.transpose(0, 2, 1), decided)
        in_leaf = agreed >= self.depths[:, :, None] - 0.5
        found: Floats = np.einsum("tl,tlr->r", self.values, in_leaf, optimize=True)
        return found

    def probability(self, raw: Floats) -> Floats:
        """Return raw scores as the chance of being relevant, calibrated on the training data."""
        found: Floats = 1.0 / (1.0 + np.exp(-(self.scale * raw + self.shift)))
        return found


@cache
def load_ensemble() -> Ensemble:
    """Load the ranker that ships with the package; raises ValueError when it is another's."""
    raw = json.loads(files(__package__).joinpath("ranker.json").read_text(encoding="utf-8"))
    return parse_ensemble(raw)


def parse_ensemble(raw: Mapping[str, object]) -> Ensemble:
    """Pack trees of the stored form; raises ValueError when the columns are not ours.

    A tree is {"split": [column...], "at": [threshold...], "left": [...], "right": [...],
    "leaf": [value...]}; a child >= 0 is a node, below 0 the leaf `-child - 1`.
    """
    if raw.get("features") != list(FEATURES):
        raise ValueError("The ranker was trained on other columns: train it again.")
    trees: Sequence[Mapping[str, Sequence[float]]] = raw["trees"]  # type: ignore[assignment]
    nodes = max(len(tree["split"]) for tree in trees)
    splits = np.zeros((len(trees), nodes), dtype=np.int64)
    thresholds = np.zeros((len(trees), nodes), dtype=np.float32)
    paths = np.zeros((len(trees), nodes, nodes + 1), dtype=np.float32)
    values = np.zeros((len(trees), nodes + 1), dtype=np.float32)
    # A leaf that a smaller tree does not have can never agree with its depth.
    depths = np.full((len(trees), nodes + 1), np.inf, dtype=np.float32)
    for at, tree in enumerate(trees):
        size = len(tree["split"])
        splits[at, :size], thresholds[at, :size] = tree["split"], tree["at"]
        values[at, : size + 1] = tree["leaf"]
        _walk(tree, 0, [], paths[at])
        depths[at, : size + 1] = np.abs(paths[at]).sum(axis=0)[: size + 1]
    scale, shift = float(str(raw["scale"])), float(str(raw["shift"]))
    return Ensemble(splits, thresholds, paths, depths, values, scale, shift)


def rerank(
    terms: Mapping[int, int],
    fused: Sequence[ScoredChunk],
    statistics: TermStatistics,
    counts: TermCounts | None = None,
    *,
    ensemble: Ensemble | None = None,
) -> list[ScoredChunk]:
    """Return the fused chunks in the ranker's order; `score` is a calibrated chance in 0..1.

    `fused` is what `fusion.fuse` gave, best first, with its raw parts. At most
    `DEPTH_OF_RERANKING` chunks come back. A question without a term that the corpus knows has
    nothing to be judged by and keeps its order and scores. Equal scores keep the fusion's order.
    """
    head = list(fused[:DEPTH_OF_RERANKING])
    known = [term for term in terms if statistics.document_frequencies.get(term, 0) > 0]
    if not head or not known:
        return head
    counts = counts or counted(head, known)
    rows = features(
        question_terms(terms, known, statistics), _candidates(head, known, counts, statistics)
    )
    model = ensemble or load_ensemble()
    raw = model.score(rows)
    chances = model.probability(raw).tolist()
    return [
        replace(head[at], score=chances[at]) for at in np.argsort(-raw, kind="stable").tolist()
    ]


def counted(chunks: Sequence[ScoredChunk], terms: Sequence[int]) -> TermCounts:
    """Count the question's terms in the chunks' texts: the slow way, for a path without arrays.

    About 0.05 ms a chunk. The language is told from the text, as at ingestion.
    """
    frequencies = np.zeros((len(chunks), len(terms)), dtype=np.float32)
    lengths = np.zeros(len(chunks), dtype=np.float32)
    for row, scored in enumerate(chunks):
        text = scored.chunk.text
        found = analysis.terms(text, analysis.detect_language(text))
        lengths[row] = analysis.document_length(found)
        frequencies[row] = [found.get(term, 0) for term in terms]
    rows = {scored.chunk.id: row for row, scored in enumerate(chunks)}
    return TermCounts(terms=terms, rows=rows, frequencies=frequencies, lengths=lengths)


def question_terms(
    terms: Mapping[int, int], known: Sequence[int], statistics: TermStatistics
) -> QuestionTerms:
    """Return the question's columns for the terms that the corpus knows."""
    frequencies = statistics.document_frequencies
    idf = np.array(
        [bm25.idf(frequencies[term], statistics.chunk_count) for term in known], dtype=np.float32
    )
    repeated = np.array([terms[term] for term in known], dtype=np.float32)
    pairs = np.array([analysis.is_bigram(term) for term in known], dtype=np.bool_)
    return QuestionTerms(idf=idf, weights=idf * repeated, bigrams=pairs)


def _candidates(
    head: Sequence[ScoredChunk],
    known: Sequence[int],
    counts: TermCounts,
    statistics: TermStatistics,
) -> Candidates:
    rows = [counts.rows[scored.chunk.id] for scored in head]
    places = {term: column for column, term in enumerate(counts.terms)}
    columns = [places[term] for term in known]
    lowest = min((scored.dense for scored in head if scored.dense is not None), default=0.0)
    numbers: dict[str, int] = {}
    return Candidates(
        fused=np.array([scored.score for scored in head], dtype=np.float32),
        dense=np.array(
            [lowest if scored.dense is None else scored.dense for scored in head], dtype=np.float32
        ),
        frequencies=counts.frequencies[np.ix_(rows, columns)],
        lengths=counts.lengths[rows] / np.float32(max(statistics.average_length, 1e-9)),
        documents=np.array(
            [numbers.setdefault(s.chunk.document_id, len(numbers)) for s in head], dtype=np.int64
        ),
        ordinals=np.array([scored.chunk.ordinal for scored in head], dtype=np.int64),
    )


def _walk(
    tree: Mapping[str, Sequence[float]], node: int, way: list[tuple[int, int]], paths: Floats
) -> None:
    if node < 0:
        for passed, side in way:
            paths[passed, -node - 1] = side
        return
    _walk(tree, int(tree["left"][node]), [*way, (node, 1)], paths)
    _walk(tree, int(tree["right"][node]), [*way, (node, -1)], paths)
