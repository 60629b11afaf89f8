"""What a stretch of a text says and about what, in the form in which two can be compared.

English and German. Pure; must not enter: sources, answers, providers.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from compliance_copilot.rag.analysis import detect_language, word_stems
from compliance_copilot.rag.claims import Claims, Quantity, claims

_MIN_WORDS = 3
_MAX_WORDS = 40
_ALIKE = 6
_HOURS = {
    "second": 1 / 3600,
    "minute": 1 / 60,
    "hour": 1.0,
    "day": 24.0,
    "week": 168.0,
    "month": 720.0,
    "quarter": 2160.0,
    "year": 8760.0,
}
_UNITS = dict.fromkeys(_HOURS, "time")
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_IGNORED = re.compile(
    r"\b(?:\d[\d.,:/-]*|must|shall|may|can|should|not|no|never|cannot|at least|at most|within|up to"
    r"|seconds?|minutes?|hours?|days?|weeks?|months?|quarters?|years?|muss|müssen|darf|dürfen|kann"
    r"|können|soll\w*|nicht|kein\w*|nie|mindestens|höchstens|innerhalb|stunden?|tage?n?|wochen?"
    r"|monate?n?|jahre?n?|is|are|sind|ist|one|two|three|four|five|six|seven|eight|nine|ten|twelve)\b"
)
"""In small letters, for lowered texts."""


class Sayings(NamedTuple):
    """What a statement commits itself to, as far as another can deny it.

    `amounts`: numbers by what they measure or count, times in hours.
    """

    amounts: Mapping[str, Sequence[float]]
    dates: Sequence[Sequence[int | None]]
    modals: Collection[str]
    negated: bool
    commits: bool
    """Whether it commits itself to anything of the kind."""


def sayings(text: str) -> Sayings:
    """Return what a stretch of text commits itself to."""
    said = claims(text)
    return Sayings(
        amounts=_amounts(text, said),
        dates=sorted(map(list, said.dates), key=repr),
        modals=sorted(said.modals),
        negated=said.negated,
        commits=bool(said.quantities or said.dates or said.modals or said.negated),
    )


def beginnings(text: str) -> frozenset[str]:
    """Return how the words of a text begin: a cheap look at what it is about."""
    return frozenset(word[:5] for word in _LETTERS.findall(text.lower()))


def subject(text: str) -> frozenset[str]:
    """Return the words that say what a stretch is about, numbers, units and modal words left out.

    None at all for what is too short or too long to tell.
    """
    words = content(_IGNORED.sub(" ", text.lower()), detect_language(text))
    return words if _MIN_WORDS <= len(words) <= _MAX_WORDS else frozenset()


def content(text: str, language: str) -> frozenset[str]:
    """Return the stems of a text without function words, cut to forgive inflection inside.

    `weitergeben` and `weitergegeben` begin alike; six letters tell most words apart.
    """
    return frozenset([stem[:_ALIKE] for stem in word_stems(text, language)])


def _amounts(text: str, said: Claims) -> dict[str, list[float]]:
    amounts: dict[str, set[float]] = {}
    for quantity in said.quantities:
        # A bare number is mostly a reference (section 4, ISO 27001): only `n characters` counts.
        kind = _UNITS.get(quantity.unit or "", quantity.unit) or _counted(text, quantity)
        number = _number(quantity.value)
        if kind is not None and number is not None:
            scale = _HOURS.get(quantity.unit or "", 1.0) if kind == "time" else 1.0
            amounts.setdefault(kind, set()).add(number * scale)
    return {kind: sorted(numbers) for kind, numbers in sorted(amounts.items())}


def _counted(text: str, quantity: Quantity) -> str | None:
    """Return the plural noun behind a bare number: what is counted."""
    found = re.search(rf"\b{re.escape(quantity.value)}\s+([^\W\d_]{{4,}}[sn])\b", text)
    return found[1].lower() if found else None


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
