"""How `rag/companions.json` is trained: the third look of `agentic`, over `companions.FEATURES`.

Called by `benchmarks/train_rankers.py`; needs `lightgbm`. The candidates' strength comes from
rankers that have not seen the question (`train_ranker.cross_validated`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np

from benchmarks import offline, train_ranker
from benchmarks.folds import FOLDS, document_folds, learnt
from benchmarks.measures import measured
from compliance_copilot.rag import companions, planning
from compliance_copilot.rag.contenders import Contender, place_of
from compliance_copilot.rag.ranking import Ensemble, parse_ensemble

ROUNDS = 200
PARAMETERS = {
    **train_ranker.PARAMETERS, "learning_rate": 0.05, "lambdarank_truncation_level": 30,
    "monotone_constraints": [int(name == "strength") for name in companions.FEATURES],
}  # fmt: skip
_OF_A_PART = 20
_ADDED_OF_A_PART = 10


@dataclass(frozen=True)
class Pools:
    """One layout's pools: per question the columns, the chunks (rows of the index), the labels."""

    first: train_ranker.Table
    columns: Sequence[np.ndarray]
    chunks: Sequence[np.ndarray]
    relevant: Sequence[np.ndarray]

    def figures(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Return the figures of all questions under these scores."""
        ordered = (
            chunks[np.argsort(-raw, kind="stable")]
            for chunks, raw in zip(self.chunks, scores, strict=True)
        )
        found = [self.first.index.passages_of(chunks) for chunks in ordered]
        return measured(found, self.first.questions.gold)


def pooled(
    tables: Sequence[train_ranker.Table],
    held: Sequence[np.ndarray],
    rankers: Sequence[lightgbm.Booster],
) -> list[Pools]:
    """Return the pools of each table, under the held-out scores of the first look."""
    first = parse_ensemble(train_ranker.packed(rankers[0], *train_ranker.curve(tables, held)))
    return [
        _pools(table, scores, part_lists(table, rankers), first)
        for table, scores in zip(tables, held, strict=True)
    ]


def _pools(
    table: train_ranker.Table,
    held: np.ndarray,
    lists: Sequence[Sequence[Sequence[int]]],
    calibrated: Ensemble,
) -> Pools:
    index = table.index
    where = {(c.document_id, c.ordinal): row for row, c in enumerate(index.chunks)}
    vectors = offline.embed(table.questions.texts)
    columns, chunks, relevant = [], [], []
    for question, gold in enumerate(table.questions.gold):
        ordered, raw = table.ordered(question, held)
        rows, head = ordered.tolist(), ordered[: companions.POOL].tolist()
        extra = _extra(index, where, head, lists[question])
        chances = calibrated.probability(np.append(raw, raw.min() - 0.5).astype(np.float32))
        known = dict(zip(rows, chances.tolist(), strict=False))
        found = [*head, *extra]
        pool = companions.Pool(
            [
                Contender(
                    index.chunks[row].id,
                    place_of(index.chunks[row]),
                    known.get(row, float(chances[-1])),
                )
                for row in found
            ],
            index.vectors[found],
            np.arange(len(found)) >= len(head),
            _places(index, lists[question], found),
        )
        columns.append(companions.features(pool, vectors[question]))
        chunks.append(np.array(found))
        relevant.append(np.array([bool(gold.intersection(index.passages[r])) for r in found]))
    return Pools(table, columns, chunks, relevant)


def _places(
    index: offline.OfflineIndex, lists: Sequence[Sequence[int]], found: Sequence[int]
) -> np.ndarray:
    ids = [[index.chunks[row].id for row in of_part] for of_part in lists]
    return companions.part_places(ids, [index.chunks[row].id for row in found])


def _extra(
    index: offline.OfflineIndex,
    where: dict[tuple[str, int], int],
    head: Sequence[int],
    lists: Sequence[Sequence[int]],
) -> list[int]:
    """Return what stands around the strongest and what the parts found, beside the head."""
    found: dict[int, None] = {}
    for row in head[: companions.READ_AROUND]:
        chunk = index.chunks[row]
        for step in range(-companions.REACH, companions.REACH + 1):
            near = where.get((chunk.document_id, chunk.ordinal + step))
            if near is not None:
                found[near] = None
    found |= dict.fromkeys(row for part in lists for row in part[:_ADDED_OF_A_PART])
    return [row for row in found if row not in set(head)]


def part_lists(
    table: train_ranker.Table, rankers: Sequence[lightgbm.Booster]
) -> list[list[list[int]]]:
    """Return per question the ranked chunks of each of its parts; none when it has one part."""
    parts = [planning.parts(text) for text in table.questions.texts]
    flat = [part for of_one in parts for part in of_one if len(of_one) > 1]
    vectors = iter(offline.embed(flat))
    folds = document_folds(table.questions)
    lists: list[list[list[int]]] = []
    for of_one, fold in zip(parts, folds, strict=True):
        several = of_one if len(of_one) > 1 else ()
        lists.append([_ask(table.index, p, next(vectors), rankers[fold]) for p in several])
    return lists


def _ask(
    index: offline.OfflineIndex, text: str, vector: np.ndarray, ranker: lightgbm.Booster
) -> list[int]:
    rows, columns = train_ranker.candidates(index, text, vector)
    if not columns.any():
        return rows[:_OF_A_PART].tolist()
    order = np.argsort(-ranker.predict(columns), kind="stable")
    return rows[order][:_OF_A_PART].tolist()


def cross_validated(
    pools: Sequence[Pools],
) -> tuple[list[list[np.ndarray]], list[lightgbm.Booster]]:
    """Return per layout the held-out scores of each question's pool, and each fold's model."""
    questions = pools[0].first.questions
    folds = document_folds(questions)
    models = [train(pools, learnt(questions, folds, fold)) for fold in range(FOLDS)]
    return [
        [models[fold].predict(columns) for columns, fold in zip(pool.columns, folds, strict=True)]
        for pool in pools
    ], models


def train(pools: Sequence[Pools], questions: Sequence[int]) -> lightgbm.Booster:
    columns = np.concatenate([pool.columns[q] for pool in pools for q in questions])
    labels = np.concatenate([pool.relevant[q] for pool in pools for q in questions])
    sizes = [len(pool.chunks[q]) for pool in pools for q in questions]
    data = lightgbm.Dataset(columns, labels.astype(np.int8), group=sizes)
    return lightgbm.train(PARAMETERS, data, ROUNDS)


def curve(pools: Sequence[Pools], held: Sequence[Sequence[np.ndarray]]) -> tuple[float, float]:
    """Return the calibration through the held-out scores of all pools."""
    raw = np.concatenate([scores for of_pool in held for scores in of_pool])
    relevant = np.concatenate([labels for pool in pools for labels in pool.relevant])
    return train_ranker.calibration(raw, relevant)


def packed(model: lightgbm.Booster, curve: tuple[float, float]) -> dict[str, object]:
    """Return the stored form."""
    return train_ranker.packed(model, *curve, companions.FEATURES)
