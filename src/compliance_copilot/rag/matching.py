"""Where a quoted stretch stands in a text, whatever was done to its spaces, quotes and dashes.

Pure; must not enter: sources, sentences, answers.
"""

import re
import unicodedata
from collections.abc import Sequence

_SAME = {
    **dict.fromkeys("‘’‚‛′`´ʼ", "'"),
    **dict.fromkeys("“”„‟″«»‹›", '"'),
    **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    "…": "...",
}
# Emphasis signs of Markdown, and characters that nobody sees.
_DROPPED = frozenset("*\u00ad\u200b\u200c\u200d\u2060\ufeff")
_EDGES = " \t\r\n\"'“”„‘’«».,;:…-–—"
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.{3}|…)\s*\]|\(\s*(?:\.{3}|…)\s*\)|\.{3,}|…)\s*")
_MIN_PART = 8
_PLAIN = re.compile(r"[\x21-\x29\x2b-\x5f\x61-\x7e]+(?: [\x21-\x29\x2b-\x5f\x61-\x7e]+)*\Z")

Span = tuple[int, int]


def find(text: str, quote: str) -> list[Span]:
    """Return (start, end) of each part of a quote in the text; nothing when one is missing.

    A quote has more than one part when it leaves something out ("Keys ... are rotated"); parts
    have to stand in order. Letter case is forgiven, letters are not.
    """
    exact = quote.strip()
    at = text.find(exact) if exact else -1
    if at >= 0:
        return [(at, at + len(exact))]
    parts = [part for part in _ELLIPSIS.split(quote) if part.strip(_EDGES)]
    if len(parts) > 1 and any(len(part.strip()) < _MIN_PART for part in parts):
        return []
    norm, origin = _normalised(text)
    found: list[Span] = []
    place = 0
    for part in parts:
        span = _find(norm, part, place)
        if span is None:
            return []
        found.append((origin[span[0]], origin[span[1] - 1] + 1))
        place = span[1]
    return found


def _find(norm: str, part: str, place: int) -> Span | None:
    for wanted in (_normalised(part)[0].strip(), _normalised(part.strip(_EDGES))[0].strip()):
        if not wanted:
            continue
        at = norm.find(wanted, place)
        if at < 0:
            at = folded(norm).find(folded(wanted), place)
        if at >= 0:
            return at, at + len(wanted)
    return None


def _normalised(text: str) -> tuple[str, Sequence[int]]:
    """Return the text in its plainest form, and for each of its characters where it came from."""
    if _PLAIN.match(text):
        return text, range(len(text))
    letters: list[str] = []
    origin: list[int] = []
    for n, character in enumerate(text):
        if character in _DROPPED:
            continue
        for letter in _plain(character):
            if letter == " " and letters and letters[-1] == " ":
                continue
            letters.append(letter)
            origin.append(n)
    return "".join(letters), origin


def _plain(character: str) -> str:
    if character.isascii():
        return " " if character.isspace() else "'" if character == "`" else character
    if character.isspace():
        return " "
    known = _SAME.get(character)
    # NFKC writes ligatures, full-width and circled forms as their letters.
    return known if known is not None else unicodedata.normalize("NFKC", character)


def folded(text: str) -> str:
    """Return lower case of the same length, so that offsets stay."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(_lower(character) for character in text)


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character
