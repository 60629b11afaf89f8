"""Figures of ranked lists: Recall, MAP, nDCG at 10 and all-gold, with bootstrap intervals."""

from collections.abc import Sequence

import numpy as np

NAMES = ("Recall@10", "MAP@10", "nDCG@10", "all-gold@10")
_DRAWS = 1000


def measured(ranked: Sequence[Sequence[int]], gold: Sequence[frozenset[int]]) -> np.ndarray:
    """Return (questions, 5): the four figures, and how many passages answer the question.

    MAP@10 and nDCG@10 are trec_eval's: average precision over all that is relevant.
    """
    return np.array([_one(list(r)[:10], g) for r, g in zip(ranked, gold, strict=True)])


def _one(ranked: Sequence[int], gold: frozenset[int]) -> tuple[float, ...]:
    hit = np.array([row in gold for row in ranked] or [False], dtype=float)
    discount = 1 / np.log2(np.arange(2, len(hit) + 2))
    ideal = (1 / np.log2(np.arange(2, min(10, len(gold)) + 2))).sum()
    precision = (hit * np.cumsum(hit) / np.arange(1, len(hit) + 1)).sum() / len(gold)
    found = hit.sum() / len(gold)
    return found, precision, (hit * discount).sum() / ideal, float(found == 1.0), len(gold)


def line(name: str, figures: np.ndarray) -> str:
    """Return a row of a table; all-gold counts questions with two or more answers."""
    random = np.random.default_rng(0)
    several = figures[figures[:, 4] >= 2]
    cells = []
    for column in range(4):
        values = (several if column == 3 else figures)[:, column]
        if not len(values):
            cells.append("-")
            continue
        draws = random.choice(values, (_DRAWS, len(values))).mean(axis=1)
        low, high = np.quantile(draws, (0.025, 0.975))
        cells.append(f"{values.mean():.4f} ({low:.3f}-{high:.3f})")
    return f"| {name} | " + " | ".join(cells) + " |"
