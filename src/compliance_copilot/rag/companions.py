"""A third look, for several sources at once: what belongs to the strongest ones found.

Evidence that answers together often stands together or says alike. Each candidate is judged by its
nearness to the strongest: in the text of a document, and between vectors. The judge is a small
learned ensemble (`companions.json`, trained by `benchmarks/train_companions.py`). Must not enter:
SQL, anything that names a corpus.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from compliance_copilot.rag.contenders import Contender, Place
from compliance_copilot.rag.evidence import Floats
from compliance_copilot.rag.ranking import Ensemble, parse_ensemble

POOL = 50
"""How many of the ranked chunks are looked at once more."""
STRONGEST = 5
REACH = 2
"""How far around a strong chunk its neighbours are read."""
READ_AROUND = 6
"""Around how many of the strongest."""
_FAR = 99.0
_STEPS = 20.0

FEATURES: tuple[str, ...] = (
    "strength", "place", "behind_best", "best", "lead", "slope", "question_near", "near_first",
    "near_second", "near_third", "nearest", "near_mean", "step_first", "steps_first",
    "steps_three", "steps_five", "same_first", "same_three", "same_five", "document_hits", "added",
    "part_place", "parts_met",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates, best first, those that were only read around or looked up behind them.

    Their scores are chances in 0..1. `vectors`: unit vectors of shape (candidates, dimensions);
    `part_places`: for each candidate its place in the list of each part, counted from 0, of shape
    (candidates, parts), infinite where the part did not find it.
    """

    contenders: Sequence[Contender]
    vectors: Floats
    added: NDArray[np.bool_]
    part_places: Floats


@cache
def load_companions() -> Ensemble:
    """Load the ensemble that ships with the package."""
    raw = orjson.loads(files(__package__).joinpath("companions.json").read_bytes())
    return parse_ensemble(raw, FEATURES)


def strength(chances: Sequence[float]) -> Floats:
    """Return chances in 0..1 as log-odds."""
    clipped = np.clip(np.asarray(chances, dtype=np.float32), 1e-6, 1 - 1e-6)
    odds: Floats = np.log(clipped / (1 - clipped))
    return odds


def ordered(pool: Pool, question: Floats, *, ensemble: Ensemble | None = None) -> list[Contender]:
    """Return the pool in the order of the third look; `score` is a calibrated chance in 0..1."""
    if not pool.contenders:
        return []
    model = ensemble or load_companions()
    raw = model.score(features(pool, question))
    chances = model.probability(raw).tolist()
    best_first = np.argsort(-raw, kind="stable").tolist()
    return [pool.contenders[place]._replace(score=chances[place]) for place in best_first]


def features(pool: Pool, question: Floats) -> Floats:
    """Return the columns of `FEATURES` for each candidate; `question` is its unit vector."""
    count = len(pool.contenders)
    strong = strength([contender.score for contender in pool.contenders])
    places = [contender.place for contender in pool.contenders]
    top = np.arange(min(STRONGEST, count))
    near = pool.vectors @ pool.vectors[top].T
    near[top, top] = -1.0
    steps = _steps(places, top)
    apart = np.abs(steps)
    apart[top, top] = _FAR
    same = apart < _FAR
    same[top, top] = True
    met = pool.part_places < STRONGEST * 2
    single = np.ones(count, dtype=np.float32)
    columns = [
        strong, np.arange(count), strong - strong[0], single * strong[0],
        single * (strong[0] - strong[min(1, count - 1)]),
        single * (strong[0] - strong[min(4, count - 1)]), pool.vectors @ question, near[:, 0],
        near[:, min(1, count - 1, STRONGEST - 1)], near[:, min(2, count - 1)],
        near.max(axis=1), near.mean(axis=1), np.clip(steps[:, 0], -_STEPS, _STEPS), apart[:, 0],
        apart[:, :3].min(axis=1), apart.min(axis=1), same[:, 0], same[:, :3].sum(axis=1),
        same.sum(axis=1), _document_hits(places), pool.added,
        pool.part_places.min(axis=1, initial=_FAR), met.sum(axis=1),
    ]  # fmt: skip
    return np.column_stack(columns).astype(np.float32)


def _steps(places: Sequence[Place], top: NDArray[np.int64]) -> Floats:
    """Return how many chunks lie between each candidate and the strongest; far in other texts."""
    numbers: dict[str | int, int] = {}
    texts = np.array([numbers.setdefault(place.document, len(numbers)) for place in places])
    ordinals = np.array([place.ordinal for place in places], dtype=np.float32)
    within = ordinals[:, None] - ordinals[None, top]
    return np.where(texts[:, None] == texts[None, top], within, _FAR).astype(np.float32)


def _document_hits(places: Sequence[Place]) -> Sequence[int]:
    hits = Counter(place.document for place in places[: 2 * STRONGEST])
    return [hits[place.document] for place in places]


def part_places(lists: Sequence[Sequence[UUID]], ids: Sequence[UUID]) -> Floats:
    """Return the place of each chunk in each list, infinite where it is not in it."""
    where: list[Mapping[UUID, int]] = [{id_: n for n, id_ in enumerate(found)} for found in lists]
    rows = [[found.get(chunk_id, np.inf) for found in where] for chunk_id in ids]
    return np.array(rows, dtype=np.float32).reshape(len(ids), len(lists))
