"""Folds over documents: no question that is learnt from shares a document with one that is tested.

Nothing here needs more than numpy.
"""

from collections.abc import Sequence

import numpy as np

from benchmarks.offline import Questions

FOLDS = 5


def document_folds(questions: Questions) -> np.ndarray:
    """Return a fold per question; all questions of one document are in one fold."""
    first = [min(documents) for documents in questions.source]
    names, sizes = np.unique(first, return_counts=True)
    load, fold_of = np.zeros(FOLDS), {}
    for at in np.argsort(-sizes, kind="stable"):
        fold_of[names[at]] = int(load.argmin())
        load[fold_of[names[at]]] += sizes[at]
    return np.array([fold_of[name] for name in first])


def tested(folds: np.ndarray, fold: int) -> np.ndarray:
    """Return the questions of a fold."""
    return np.flatnonzero(folds == fold)


def learnt(questions: Questions, folds: np.ndarray, fold: int) -> Sequence[int]:
    """Return the questions to train on for a fold."""
    held = {min(questions.source[q]) for q in tested(folds, fold)}
    return [int(q) for q in np.flatnonzero(folds != fold) if not questions.source[q] & held]
