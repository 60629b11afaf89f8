"""Rankers that have not seen a fold: for each fold the two files that the product would ship.

Needs `lightgbm`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks import train_companions, train_ranker


def pairs(data: Path, split: str) -> list[Mapping[str, str]]:
    """Return per fold `ranker.json` and `companions.json`, trained without its documents."""
    tables = list(train_ranker.tabulated(data, split).values())
    held, rankers = train_ranker.cross_validated(tables)
    curve = train_ranker.curve(tables, held)
    pools = train_companions.pooled(tables, held, rankers)
    third, companions = train_companions.cross_validated(pools)
    return [
        {
            "ranker.json": json.dumps(train_ranker.packed(ranker, *curve)),
            "companions.json": json.dumps(train_companions.packed(companion, pools, third)),
        }
        for ranker, companion in zip(rankers, companions, strict=True)
    ]
