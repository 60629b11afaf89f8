"""How `rag/ranker.json` is trained: LambdaMART over the columns of `rag/evidence.py`.

Called by `benchmarks/train_rankers.py`; needs `lightgbm`. Candidates and columns are those of the
service, by its own code, in both layouts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np

from benchmarks import offline
from benchmarks.folds import FOLDS, document_folds, learnt, tested
from benchmarks.layouts import LAYOUTS
from benchmarks.measures import measured
from compliance_copilot.rag import analysis, fusion, ranking
from compliance_copilot.rag.evidence import FEATURES
from compliance_copilot.rag.searching import LANGUAGES

ROUNDS = 250
# More of these can never make a chunk less relevant: it keeps the model sane on other corpora.
RISING = {"sparse": 1, "fused": 1, "unigram_cover": 1, "bigram_cover": 1, "rarest_missed": -1}
PARAMETERS = {
    "objective": "lambdarank", "learning_rate": 0.06, "num_leaves": 8, "min_data_in_leaf": 40,
    "lambdarank_truncation_level": 20, "feature_fraction": 0.7, "bagging_fraction": 0.8,
    "bagging_freq": 1, "lambda_l2": 5.0, "max_bin": 63, "seed": 1, "deterministic": True,
    "force_row_wise": True, "num_threads": 1, "verbosity": -1,
    "monotone_constraints": [RISING.get(name, 0) for name in FEATURES],
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One layout's candidates, question after question; `starts` has one entry more than those.

    `chunks` are rows of the index.
    """

    index: offline.OfflineIndex
    questions: offline.Questions
    columns: np.ndarray
    relevant: np.ndarray
    chunks: np.ndarray
    starts: np.ndarray

    def span(self, question: int) -> slice:
        """Return where a question's candidates are."""
        return slice(*self.starts[question : question + 2])

    def rows(self, questions: Iterable[int]) -> np.ndarray:
        """Return the places of all candidates of these questions."""
        return np.concatenate([np.arange(*self.starts[q : q + 2]) for q in questions])

    def ordered(self, question: int, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a question's chunks and their scores, best first; `scores` are the table's."""
        span = self.span(question)
        order = np.argsort(-scores[span], kind="stable")
        return self.chunks[span][order], scores[span][order]

    def figures(self, scores: np.ndarray) -> np.ndarray:
        """Return the figures of all questions under these scores."""
        found = [
            self.index.passages_of(self.ordered(q, scores)[0])
            for q in range(len(self.questions.texts))
        ]
        return measured(found, self.questions.gold)


def tabulated(data: Path, split: str) -> dict[str, Table]:
    """Return a table per layout."""
    return {layout: tabulate(*offline.load(data, split, layout)) for layout in LAYOUTS}


def tabulate(index: offline.OfflineIndex, questions: offline.Questions) -> Table:
    """Return the candidates of all questions, as the service finds them, with their columns."""
    vectors = offline.embed(questions.texts)
    columns, relevant, chunks, starts = [], [], [], [0]
    for text, vector, gold in zip(questions.texts, vectors, questions.gold, strict=True):
        found, evidence = candidates(index, text, vector)
        columns.append(evidence)
        chunks.append(found)
        relevant.append([bool(gold.intersection(index.passages[row])) for row in found])
        starts.append(starts[-1] + len(found))
    stacked = [np.concatenate(part) for part in (columns, relevant, chunks)]
    return Table(index, questions, *stacked, starts=np.array(starts))


def candidates(
    index: offline.OfflineIndex, text: str, vector: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the chunks that the ranker is shown for a question, and their columns."""
    terms = analysis.query_terms(text, LANGUAGES)
    lists = index.search(vector, terms)
    head = fusion.fuse(lists, limit=ranking.DEPTH_OF_RERANKING)
    rows = np.array([index.rows[contender.chunk_id] for contender in head], dtype=np.int64)
    if lists.statistics is None or lists.counts is None or lists.vectors is None:
        return rows, np.zeros((len(head), len(FEATURES)), dtype=np.float32)
    return rows, ranking.evidence(terms, head, lists.statistics, lists.counts, lists.vectors)


def cross_validated(
    tables: Sequence[Table],
) -> tuple[list[np.ndarray], list[lightgbm.Booster]]:
    """Return the held-out scores of each table's candidates, and the model of each fold."""
    questions = tables[0].questions
    folds = document_folds(questions)
    models = [train(tables, learnt(questions, folds, fold)) for fold in range(FOLDS)]
    held = [np.zeros(len(table.relevant)) for table in tables]
    for fold, model in enumerate(models):
        for scores, table in zip(held, tables, strict=True):
            rows = table.rows(tested(folds, fold))
            scores[rows] = model.predict(table.columns[rows])
    return held, models


def train(tables: Sequence[Table], questions: Sequence[int]) -> lightgbm.Booster:
    """Train on both layouts, so that a corpus without structure is no surprise."""
    rows = [table.rows(questions) for table in tables]
    pairs = list(zip(tables, rows, strict=True))
    columns = np.concatenate([table.columns[at] for table, at in pairs])
    labels = np.concatenate([table.relevant[at] for table, at in pairs]).astype(np.int8)
    sizes = np.concatenate([np.diff(table.starts)[list(questions)] for table in tables])
    return lightgbm.train(PARAMETERS, lightgbm.Dataset(columns, labels, group=sizes), ROUNDS)


def curve(tables: Sequence[Table], held: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the calibration through the held-out scores of all tables."""
    relevant = np.concatenate([table.relevant for table in tables])
    return calibration(np.concatenate(held), relevant)


def calibration(raw: np.ndarray, relevant: np.ndarray) -> tuple[float, float]:
    """Return scale and shift of the logistic curve through held-out scores (Platt 1999)."""
    columns = np.column_stack([raw, np.ones(len(raw))])
    found = np.array([1.0, -3.0])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-columns @ found))
        slope = columns.T @ (relevant - chance)
        found = found + np.linalg.solve((columns.T * (chance * (1 - chance))) @ columns, slope)
    return float(found[0]), float(found[1])


def packed(
    model: lightgbm.Booster, scale: float, shift: float, columns: Sequence[str] = FEATURES
) -> dict[str, object]:
    """Return the stored form that `ranking.parse_ensemble` reads."""
    trees = [_tree(t["tree_structure"]) for t in model.dump_model()["tree_info"]]
    nodes, leaves = PARAMETERS["num_leaves"] - 1, PARAMETERS["num_leaves"]
    names = ("splits", "thresholds", "keeps", "values")
    fillers, widths = (0, 1e30, 255, 0.0), (nodes, nodes, nodes, leaves)
    stored: dict[str, object] = {"features": list(columns), "scale": scale, "shift": shift}
    for place, (name, filler, width) in enumerate(zip(names, fillers, widths, strict=True)):
        parts = [tree[place] for tree in trees]
        stored[name] = [part + [filler] * (width - len(part)) for part in parts]
    return stored


def _tree(root: dict) -> tuple[list, list, list, list]:
    splits, thresholds, keeps, values = [], [], [], []

    def visit(node: dict) -> list[int]:
        if "leaf_value" in node:
            values.append(float(f"{node['leaf_value']:.5g}"))
            return [len(values) - 1]
        at = len(splits)
        splits.append(node["split_feature"])
        thresholds.append(_float32_below(node["threshold"]))
        keeps.append(255)
        left = visit(node["left_child"])
        keeps[at] = 255 - sum(1 << leaf for leaf in left)
        return left + visit(node["right_child"])

    visit(root)
    return splits, thresholds, keeps, values


def _float32_below(value: float) -> float:
    """Round down, so that a comparison in float32 decides as in float64 for float32 columns."""
    single = np.float32(value)
    below = single if single <= value else np.nextafter(single, np.float32(-np.inf))
    return float(str(below))
