"""Train `rag/ranker.json`: LambdaMART over the columns of `rag/evidence.py`.

    python benchmarks/train_ranker.py --data DIR [--split dev] [--check] [--out FILE]

Needs `lightgbm` (training only). Prints cross-validated figures twice, with folds over questions
and with folds over documents (no question of a training fold has its answer in a document of the
test fold), each for documents kept whole and for passages uploaded one by one; then trains on
everything. `--check` stops before that.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np

from benchmarks import offline
from benchmarks.measures import line, measured
from compliance_copilot.rag import analysis, fusion, ranking
from compliance_copilot.rag.contenders import Place
from compliance_copilot.rag.evidence import FEATURES

FOLDS = 5
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
    """Rows of all questions after one another; `starts` has one entry more than questions."""

    kept: np.ndarray
    alone: np.ndarray
    relevant: np.ndarray
    chunk_rows: np.ndarray
    starts: np.ndarray

    def rows(self, questions: np.ndarray) -> np.ndarray:
        """Return the places of all rows of these questions."""
        return np.concatenate([np.arange(*self.starts[q : q + 2]) for q in questions])

    def sizes(self, questions: np.ndarray) -> np.ndarray:
        """Return how many rows each of these questions has."""
        return np.diff(self.starts)[questions]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--split", default="dev")
    options.add_argument("--check", action="store_true")
    home = Path(ranking.__file__).with_name("ranker.json")
    options.add_argument("--out", type=Path, default=home)
    chosen = options.parse_args()
    chunks, questions = offline.load(chosen.data, chosen.split, "documents")
    table = tabulate(offline.OfflineIndex(chunks), questions)
    fused = table.kept[:, FEATURES.index("fused")]
    print(line("fusion", measured(ranked(table, fused), questions.gold)))
    raw = np.zeros(len(fused))
    for name, folds in (("documents", document_folds(questions)), ("questions", None)):
        kept, alone = cross_validate(table, questions, folds)
        print(line(f"folds over {name}", measured(ranked(table, kept), questions.gold)))
        flat = measured(ranked(table, alone), questions.gold)
        print(line(f"folds over {name}, passages alone", flat))
        raw = kept
    if not chosen.check:
        everything = np.arange(len(questions.texts))
        stored = packed(train(table, everything), *calibration(raw, table.relevant))
        chosen.out.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")


def tabulate(index: offline.OfflineIndex, questions: offline.Questions) -> Table:
    vectors = offline.embed(questions.texts)
    kept, alone, relevant, rows, starts = [], [], [], [], [0]
    for text, vector, gold in zip(questions.texts, vectors, questions.gold, strict=True):
        terms = analysis.query_terms(text, ("en",))
        lists, statistics, counts = index.search(vector, terms)
        head = fusion.fuse(lists, limit=ranking.DEPTH_OF_RERANKING)
        kept.append(ranking.evidence(terms, head, statistics, counts))
        single = [s._replace(place=Place(str(s.chunk_id), 0)) for s in head]
        alone.append(ranking.evidence(terms, single, statistics, counts))
        found = np.array([scored.chunk_id.int - 1 for scored in head])
        rows.append(found)
        relevant.append(np.isin(found, list(gold)))
        starts.append(starts[-1] + len(head))
    stacked = [np.concatenate(part) for part in (kept, alone, relevant, rows)]
    return Table(*stacked, starts=np.array(starts))


def document_folds(questions: offline.Questions) -> np.ndarray:
    """Return a fold per question; all questions of one document are in one fold."""
    first = [min(documents) for documents in questions.source]
    names, sizes = np.unique(first, return_counts=True)
    load, fold_of = np.zeros(FOLDS), {}
    for at in np.argsort(-sizes, kind="stable"):
        fold_of[names[at]] = int(load.argmin())
        load[fold_of[names[at]]] += sizes[at]
    return np.array([fold_of[name] for name in first])


def cross_validate(
    table: Table, questions: offline.Questions, folds: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return held-out scores of every row, for documents kept whole and for passages alone."""
    by_document = folds is not None
    if folds is None:
        folds = np.random.default_rng(0).permutation(len(questions.texts)) % FOLDS
    kept, alone = np.zeros(len(table.relevant)), np.zeros(len(table.relevant))
    for fold in range(FOLDS):
        test = np.flatnonzero(folds == fold)
        learnt = np.flatnonzero(folds != fold)
        if by_document:
            held = {min(questions.source[q]) for q in test}
            learnt = np.array([q for q in learnt if not questions.source[q] & held])
        model, rows = train(table, learnt), table.rows(test)
        kept[rows], alone[rows] = model.predict(table.kept[rows]), model.predict(table.alone[rows])
    return kept, alone


def train(table: Table, questions: np.ndarray) -> lightgbm.Booster:
    """Train on both layouts, so that a corpus without structure is no surprise."""
    rows, sizes = table.rows(questions), table.sizes(questions)
    columns = np.vstack([table.kept[rows], table.alone[rows]])
    labels = np.tile(table.relevant[rows].astype(np.int8), 2)
    data = lightgbm.Dataset(columns, labels, group=np.tile(sizes, 2))
    return lightgbm.train(PARAMETERS, data, ROUNDS)


def ranked(table: Table, scores: np.ndarray) -> list[np.ndarray]:
    spans = [slice(*table.starts[q : q + 2]) for q in range(len(table.starts) - 1)]
    return [table.chunk_rows[s][np.argsort(-scores[s], kind="stable")] for s in spans]


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


if __name__ == "__main__":
    main()
