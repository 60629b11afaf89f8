"""The second look: a small learned ranker over the best 100 chunks of the fusion.

A boosted ensemble of small trees (LambdaMART, Burges 2010), trained by
`benchmarks/train_rankers.py`, stored as numbers in `ranker.json` and evaluated with numpy alone. It
sees `evidence.FEATURES` only. Must not enter: SQL, vendor SDKs, anything that names a corpus.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.rag import analysis, bm25
from compliance_copilot.rag.contenders import Contender
from compliance_copilot.rag.evidence import FEATURES, Candidates, Floats, QuestionTerms, features

DEPTH_OF_RERANKING = 100
"""How many chunks of the fusion are looked at again; the rest keep their order behind them."""

_LOWEST_BIT = np.array(
    [(byte & -byte).bit_length() - 1 if byte else 0 for byte in range(256)], dtype=np.int64
)


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """The tenant's own numbers for one question: df per term, number of chunks, average length."""

    document_frequencies: Mapping[int, int]
    chunk_count: int
    average_length: float


@dataclass(frozen=True, slots=True)
class TermCounts:
    """How often each of `terms` (columns) occurs in each chunk (rows), and the chunks' lengths.

    Read back from stored weights (`bm25.counts_of_weights`).
    """

    terms: Sequence[int]
    rows: Mapping[UUID, int]
    frequencies: Floats
    lengths: Floats


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees of at most eight leaves, packed as (trees, nodes) and (trees, leaves).

    Evaluated as in QuickScorer (Lucchese et al. 2015): the leaves of a tree are the bits of a byte,
    from left to right; a node whose row goes right strikes out the leaves on its left (`keeps`);
    the lowest bit that is left is the leaf.
    """

    splits: NDArray[np.int64]
    thresholds: Floats
    keeps: NDArray[np.uint8]
    values: Floats
    scale: float
    shift: float

    def score(self, rows: Floats) -> Floats:
        """Return the sum over all trees for each row, before calibration."""
        left = rows.T[self.splits] <= self.thresholds[:, :, None]
        # A bool seen as a byte is 0 or 1; its negative is no bit or every bit.
        kept = np.negative(left.view(np.uint8)) | self.keeps[:, :, None]
        leaves = _LOWEST_BIT[np.bitwise_and.reduce(kept, axis=1)]
        found: Floats = np.take_along_axis(self.values, leaves, axis=1).sum(axis=0)
        return found

    def probability(self, raw: Floats) -> Floats:
        """Return raw scores as the chance of being relevant, calibrated on the training data."""
        found: Floats = 1.0 / (1.0 + np.exp(-(self.scale * raw + self.shift)))
        return found


@cache
def load_ensemble() -> Ensemble:
    """Load the ranker that ships with the package; raises ValueError when it fits other columns."""
    raw = json.loads(files(__package__).joinpath("ranker.json").read_text(encoding="utf-8"))
    return parse_ensemble(raw)


def parse_ensemble(raw: Mapping[str, Any], columns: Sequence[str] = FEATURES) -> Ensemble:
    """Pack trees of the stored form; raises ValueError when the columns are not ours.

    `splits`, `thresholds` and `keeps` have one row of nodes per tree, `values` one of leaves;
    smaller trees are filled up with nodes that every row passes and leaves that none reaches.
    """
    if raw["features"] != list(columns):
        raise ValueError("The ranker was trained on other columns: train it again.")
    return Ensemble(
        splits=np.array(raw["splits"], dtype=np.int64),
        thresholds=np.array(raw["thresholds"], dtype=np.float32),
        keeps=np.array(raw["keeps"], dtype=np.uint8),
        values=np.array(raw["values"], dtype=np.float32),
        scale=float(raw["scale"]),
        shift=float(raw["shift"]),
    )


def rerank(
    terms: Mapping[int, int],
    fused: Sequence[Contender],
    statistics: TermStatistics,
    counts: TermCounts,
    vectors: Floats,
    *,
    ensemble: Ensemble | None = None,
) -> list[Contender]:
    """Return the fused chunks in the ranker's order; `score` is a calibrated chance in 0..1.

    `fused` is what `fusion.fuse` gave, best first, with its raw parts; `vectors` has the chunks'
    unit vectors, in the rows of `counts`. At most
    `DEPTH_OF_RERANKING` chunks come back. A question without a term that the corpus knows has
    nothing to be judged by and keeps its order and scores. Equal scores keep the fusion's order.
    """
    head = list(fused[:DEPTH_OF_RERANKING])
    known = [term for term in terms if statistics.document_frequencies.get(term, 0) > 0]
    if not head or not known:
        return head
    model = ensemble or load_ensemble()
    raw = model.score(evidence(terms, head, statistics, counts, vectors))
    chances = model.probability(raw).tolist()
    best_first = np.argsort(-raw, kind="stable").tolist()
    return [head[place].scored(chances[place]) for place in best_first]


def evidence(
    terms: Mapping[int, int],
    head: Sequence[Contender],
    statistics: TermStatistics,
    counts: TermCounts,
    vectors: Floats,
) -> Floats:
    """Return the ranker's columns for each chunk; at least one term must be known."""
    known = [term for term in terms if statistics.document_frequencies.get(term, 0) > 0]
    question = question_terms(terms, known, statistics)
    return features(question, _candidates(head, known, statistics, counts, vectors))


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
    head: Sequence[Contender],
    known: Sequence[int],
    statistics: TermStatistics,
    counts: TermCounts,
    vectors: Floats,
) -> Candidates:
    rows = [counts.rows[scored.chunk_id] for scored in head]
    places = {term: column for column, term in enumerate(counts.terms)}
    columns = [places[term] for term in known]
    lowest = min((scored.dense for scored in head if scored.dense is not None), default=0.0)
    numbers: dict[str | int, int] = {}
    return Candidates(
        fused=np.array([scored.score for scored in head], dtype=np.float32),
        dense=np.array(
            [lowest if scored.dense is None else scored.dense for scored in head], dtype=np.float32
        ),
        frequencies=counts.frequencies[np.ix_(rows, columns)],
        lengths=counts.lengths[rows] / np.float32(max(statistics.average_length, 1e-9)),
        documents=np.array(
            [numbers.setdefault(s.place.document, len(numbers)) for s in head], dtype=np.int64
        ),
        ordinals=np.array([scored.place.ordinal for scored in head], dtype=np.int64),
        vectors=vectors[rows],
    )
