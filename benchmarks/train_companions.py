"""Train `rag/companions.json`: the third look of the `agentic` mode, over `companions.FEATURES`.

    python benchmarks/train_companions.py --data DIR [--split dev] [--check] [--out FILE]

Needs `lightgbm` (training only). The candidates' strength comes from rankers that have not seen the
question (folds over documents, as in `train_ranker.py`); figures are held out in the same folds and
stand beside the `hybrid` order of the same run.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np

from benchmarks import offline, train_ranker
from benchmarks.measures import line, measured
from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag import analysis, companions, fusion, planning, ranking
from compliance_copilot.rag.contenders import Contender, Place, place_of

ROUNDS = 200
PARAMETERS = {
    **train_ranker.PARAMETERS, "learning_rate": 0.05, "lambdarank_truncation_level": 30,
    "monotone_constraints": [int(name == "strength") for name in companions.FEATURES],
}  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """What the offline index lacks: chunks and vectors by row, neighbours by place."""

    index: offline.OfflineIndex
    places: dict[int, int]
    rows: dict[tuple[str, int], int]

    @classmethod
    def of(cls, index: offline.OfflineIndex) -> "Corpus":
        """Return the look-ups of an index."""
        places = {chunk.id.int - 1: at for at, chunk in enumerate(index.chunks)}
        rows = {(c.document_id, c.ordinal): c.id.int - 1 for c in index.chunks}
        return cls(index, places, rows)

    def chunk(self, row: int) -> Chunk:
        """Return the chunk of a corpus row."""
        return self.index.chunks[self.places[row]]

    def around(self, rows: list[int]) -> list[int]:
        """Return the neighbours of the strongest that are not among them."""
        found: dict[int, None] = {}
        for row in rows[: companions.READ_AROUND]:
            chunk = self.chunk(row)
            for step in range(-companions.REACH, companions.REACH + 1):
                near = self.rows.get((chunk.document_id, chunk.ordinal + step))
                if near is not None and near not in rows:
                    found[near] = None
        return list(found)


@dataclass
class Table:
    """Rows of all questions after one another."""

    columns: list[np.ndarray]
    found: list[np.ndarray]
    relevant: list[np.ndarray]


def tabulate(
    corpus: Corpus, questions: offline.Questions, ranked: list[tuple[list[int], np.ndarray]],
    part_lists: list[list[list[int]]], *, alone: bool,
) -> Table:  # fmt: skip
    vectors = offline.embed(questions.texts)
    table = Table([], [], [])
    for at, (rows, raw) in enumerate(ranked):
        head = rows[: companions.POOL]
        lists = part_lists[at]
        extra = [r for found in lists for r in found[:10] if r not in head]
        extra = list(dict.fromkeys([*([] if alone else corpus.around(head)), *extra]))
        chunks = [corpus.chunk(row) for row in (*head, *extra)]
        known = dict(zip(rows, raw.tolist(), strict=True))
        lowest = raw.min() - 0.5
        pool = companions.Pool(
            [
                Contender(
                    c.id,
                    Place(c.id.int, 0) if alone else place_of(c),
                    chance_of(known.get(r, lowest)),
                )
                for r, c in zip((*head, *extra), chunks, strict=True)
            ],
            corpus.index.vectors[[corpus.places[row] for row in (*head, *extra)]],
            np.arange(len(chunks)) >= len(head),
            companions.part_places(
                [[corpus.chunk(r).id for r in of_part] for of_part in lists], [c.id for c in chunks]
            ),
        )
        found = np.array([*head, *extra])
        table.columns.append(companions.features(pool, vectors[at]))
        table.found.append(found)
        table.relevant.append(np.isin(found, list(questions.gold[at])))
    return table


def part_lists(
    corpus: Corpus, questions: offline.Questions, models: list[lightgbm.Booster], folds: np.ndarray
) -> list[list[list[int]]]:
    """Return per question the ranked rows of each of its parts; none when it has one part."""
    parts = [planning.parts(text) for text in questions.texts]
    flat = [part for of_one in parts for part in of_one if len(of_one) > 1]
    vectors = iter(offline.embed(flat))
    lists: list[list[list[int]]] = []
    for at, of_one in enumerate(parts):
        several = of_one if len(of_one) > 1 else ()
        lists.append([ask(corpus, p, next(vectors), models[folds[at]]) for p in several])
    return lists


def ask(corpus: Corpus, text: str, vector: np.ndarray, model: lightgbm.Booster) -> list[int]:
    terms = analysis.query_terms(text, ("en",))
    lists, statistics, counts = corpus.index.search(vector, terms)
    head = fusion.fuse(lists, limit=ranking.DEPTH_OF_RERANKING)
    if not head or not any(statistics.document_frequencies.values()):
        return [contender.chunk_id.int - 1 for contender in head[:20]]
    raw = model.predict(ranking.evidence(terms, head, statistics, counts))
    return [head[place].chunk_id.int - 1 for place in np.argsort(-raw, kind="stable")[:20]]


def contender(chunk: Chunk, raw: float, *, alone: bool) -> Contender:
    place = Place(chunk.id.int, 0) if alone else place_of(chunk)
    return Contender(chunk.id, place, chance_of(raw))


def chance_of(raw: float) -> float:
    """Return a ranker's raw score as the shipped one tells it."""
    return float(ranking.load_ensemble().probability(np.array([raw], dtype=np.float32))[0])


def in_order(first: train_ranker.Table, scores: np.ndarray) -> list[tuple[list[int], np.ndarray]]:
    ranked = []
    for at in range(len(first.starts) - 1):
        span = slice(*first.starts[at : at + 2])
        order = np.argsort(-scores[span], kind="stable")
        ranked.append((first.chunk_rows[span][order].tolist(), scores[span][order]))
    return ranked


def train(tables: list[Table], questions: np.ndarray) -> lightgbm.Booster:
    columns = np.concatenate([t.columns[q] for t in tables for q in questions])
    labels = np.concatenate([t.relevant[q] for t in tables for q in questions]).astype(np.int8)
    sizes = [len(t.found[q]) for t in tables for q in questions]
    return lightgbm.train(PARAMETERS, lightgbm.Dataset(columns, labels, group=sizes), ROUNDS)


def best_first(table: Table, at: int, model: lightgbm.Booster) -> tuple[list[int], np.ndarray]:
    raw = model.predict(table.columns[at])
    return table.found[at][np.argsort(-raw, kind="stable")].tolist(), raw


def fold_models(
    first: train_ranker.Table, questions: offline.Questions, folds: np.ndarray
) -> list[lightgbm.Booster]:
    return [
        train_ranker.train(first, learnt(questions, folds, n)) for n in range(train_ranker.FOLDS)
    ]


def learnt(questions: offline.Questions, folds: np.ndarray, fold: int) -> np.ndarray:
    """Return the questions to train on: none shares a document with the fold that is tested."""
    held = {min(questions.source[q]) for q in np.flatnonzero(folds == fold)}
    return np.array([q for q in np.flatnonzero(folds != fold) if not questions.source[q] & held])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--split", default="dev")
    options.add_argument("--check", action="store_true")
    home = Path(companions.__file__).with_name("companions.json")
    options.add_argument("--out", type=Path, default=home)
    chosen = options.parse_args()
    chunks, questions = offline.load(chosen.data, chosen.split, "documents")
    corpus = Corpus.of(offline.OfflineIndex(chunks))
    first = train_ranker.tabulate(corpus.index, questions)
    folds = train_ranker.document_folds(questions)
    kept, alone = train_ranker.cross_validate(first, questions, folds)
    lists = part_lists(corpus, questions, fold_models(first, questions, folds), folds)
    scored = {False: in_order(first, kept), True: in_order(first, alone)}
    tables = {
        flag: tabulate(corpus, questions, ranked, lists, alone=flag)
        for flag, ranked in scored.items()
    }
    held: dict[bool, list] = {flag: [None] * len(questions.texts) for flag in tables}
    for fold in range(train_ranker.FOLDS):
        model = train(list(tables.values()), learnt(questions, folds, fold))
        for at in np.flatnonzero(folds == fold):
            for flag, table in tables.items():
                held[flag][at] = best_first(table, at, model)
    for flag, name in ((False, "documents kept whole"), (True, "passages alone")):
        hybrid = [rows for rows, _ in scored[flag]]
        agentic = [rows for rows, _ in held[flag]]
        print(line(f"hybrid, {name}", measured(hybrid, questions.gold)))
        print(line(f"agentic, {name}", measured(agentic, questions.gold)), flush=True)
    if not chosen.check:
        raw = np.concatenate([scores for _, scores in held[False]])
        relevant = np.concatenate(tables[False].relevant)
        model = train(list(tables.values()), np.arange(len(questions.texts)))
        curve = train_ranker.calibration(raw, relevant)
        stored = train_ranker.packed(model, *curve, companions.FEATURES)
        chosen.out.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
