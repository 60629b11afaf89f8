"""HTML that is nested deeper than kreuzberg reads: made flat, or refused, never cut in silence.

kreuzberg (4.10) leaves out whatever lies more than 61 elements deep, and dies of very deep trees.
"""

import re

from compliance_copilot.core.files import Unreadable

_DEEPEST = 48
_ABSURD = 1_000
_MOST_OPEN_PARAGRAPHS = 10
# What is in comments and scripts is no markup; one that does not end takes the rest with it.
_TAG = re.compile(
    rb"<!--(?:.*?-->|.*\Z)|<(script|style)\b(?:.*?</\1\s*>|.*\Z)|<(/?)([a-z][a-z0-9-]*)",
    re.I | re.S,
)
_WRAPPER_BEGINS = re.compile(rb"<(?:div|section|article|main|center)\b", re.I)
_WRAPPER_ENDS = re.compile(rb"</(?:div|section|article|main|center)\b", re.I)
_PARAGRAPH_BEGINS = re.compile(rb"<p\b", re.I)
_PARAGRAPH_ENDS = re.compile(rb"</p\b", re.I)
_INLINE = re.compile(rb"</?(?:span|font)\b[^>]*>", re.I)
# Elements that end by themselves are counted with the one around them that does not.
_STEPS = {b"table": 4, b"ul": 2, b"ol": 2, b"dl": 2}
_VOID = b"area base br col embed hr img input link meta source track wbr"
_ENDLESS = b"p li dt dd tr td th thead tbody tfoot colgroup option optgroup rt rp"
_NO_STEP = frozenset((_VOID + b" html head body script style " + _ENDLESS).split())


def flat(source: bytes) -> bytes:
    """Return HTML whose text is all within reach: wrappers of a deep page become paragraphs.

    Raises Unreadable when there are still too many levels.
    """
    source = _with_ends(source)
    deepest = _deepest(source)
    if deepest <= _DEEPEST:
        return source
    if deepest <= _ABSURD:
        flattened = _WRAPPER_ENDS.sub(b"</p", _WRAPPER_BEGINS.sub(b"</p><p", source))
        flattened = _INLINE.sub(b"", flattened)
        if _deepest(flattened) <= _DEEPEST:
            return flattened
    raise Unreadable("damaged", "It is nested deeper than can be read.")


def _with_ends(source: bytes) -> bytes:
    """Return HTML whose paragraphs have their ends, without which kreuzberg nests them."""
    begun = len(_PARAGRAPH_BEGINS.findall(source))
    if begun - len(_PARAGRAPH_ENDS.findall(source)) <= _MOST_OPEN_PARAGRAPHS:
        return source
    return _PARAGRAPH_BEGINS.sub(b"</p><p", source)


def _deepest(source: bytes) -> int:
    """Return how many elements lie in one another at most; beyond the absurd it is not counted."""
    depth = deepest = 0
    for found in _TAG.finditer(source):
        name = found.group(3)
        if name is None or (name := name.lower()) in _NO_STEP:
            continue
        step = _STEPS.get(name, 1)
        depth = max(0, depth - step) if found.group(2) else depth + step
        if depth > deepest:
            deepest = depth
            if deepest > _ABSURD:
                break
    return deepest
