"""Train what `rag/` ships: `ranker.json` and `companions.json`, and the same without each fold.

    python -m benchmarks.train_rankers --data DIR [--split dev] --folds DIR [--ship]

Needs `lightgbm` (training only). Corpus and candidates are those of the service, in both layouts
(`benchmarks/offline.py`). Prints held-out figures over folds of documents (`benchmarks/folds.py`)
and writes the pair of each fold below `--folds`, for `benchmarks.retrieval --cross-validated`.
`--ship` trains on everything besides and writes the pair of the package.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks import train_companions, train_ranker
from benchmarks.measures import line
from compliance_copilot.rag import ranking
from compliance_copilot.rag.evidence import FEATURES


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--split", default="dev")
    options.add_argument("--folds", type=Path, required=True)
    options.add_argument("--ship", action="store_true")
    chosen = options.parse_args()
    by_layout = train_ranker.tabulated(chosen.data, chosen.split)
    tables = list(by_layout.values())
    held, rankers = train_ranker.cross_validated(tables)
    for layout, table, scores in zip(by_layout, tables, held, strict=True):
        fused = table.columns[:, FEATURES.index("fused")]
        print(line(f"fusion, {layout}", table.figures(fused)))
        print(line(f"hybrid held out, {layout}", table.figures(scores)), flush=True)
    curve = train_ranker.curve(tables, held)
    pools = train_companions.pooled(tables, held, rankers)
    third, companions = train_companions.cross_validated(pools)
    for layout, pool, of_pool in zip(by_layout, pools, third, strict=True):
        print(line(f"agentic held out, {layout}", pool.figures(of_pool)), flush=True)
    bend = train_companions.curve(pools, third)
    for fold, (ranker, companion) in enumerate(zip(rankers, companions, strict=True)):
        write(
            chosen.folds / f"fold-{fold}",
            train_ranker.packed(ranker, *curve),
            train_companions.packed(companion, bend),
        )
    if chosen.ship:
        everything = range(len(tables[0].questions.texts))
        write(
            Path(ranking.__file__).parent,
            train_ranker.packed(train_ranker.train(tables, everything), *curve),
            train_companions.packed(train_companions.train(pools, everything), bend),
        )


def write(folder: Path, ranker: Mapping[str, object], companions: Mapping[str, object]) -> None:
    """Write a pair of stored ensembles."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, stored in (("ranker", ranker), ("companions", companions)):
        text = json.dumps(stored, separators=(",", ":")) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
