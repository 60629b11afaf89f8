"""Documents that try to do something: what is taken out of them, what is flagged, what is shown.

`clean_text` at ingest, `is_suspicious` for passages that address a model, `safe_text` for what goes
to a reader. Text of documents is data. Pure; must not enter: prompts, providers, storage.
"""

import re
from collections.abc import Iterable, Sequence

from compliance_copilot.core.vocabulary import ScoredChunk
from compliance_copilot.rag.suspicion import is_suspicious as is_suspicious
from compliance_copilot.rag.visible import clean_text as clean_text

__all__ = ["clean_text", "is_suspicious", "names_address", "safe_text", "trusted_passage"]

_IMAGE = re.compile(r"!\[([^\]]*)\](?:\([^)]*\)?|\[[^\]]*\])")
_LINK = re.compile(r"\[([^\]]*)\]\(\s*<?([^)\s>]*)[^)]*\)?")
_DEFINITION = re.compile(r"^\s*\[[^\]]+\]:\s*\S+.*$", re.M)
_TAG = re.compile(r"<(?:/?[a-zA-Z!?][^<>]*>?|$)")
_URL = re.compile(
    r"(?:(?:https?|ftp|file|javascript|data|vbscript|mailto|tel|ws|wss)\s*:\s*(?://)?|//|www\.)[^\s<>\"'`)\]]*"
    r"|\b(?:[a-z0-9-]+\.)+(?:com|org|net|io|dev|ru|cn|xyz|info|biz|app|co|ai|me|link|click|top|site|online|evil"
    r"|test|example|local|de|uk|eu)\b(?:/[^\s<>\"'`)\]]*)?",
    re.I,
)  # fmt: skip
_ADDRESS_SIGN = re.compile(r":|//|\.\w|www\.", re.I)
"""What each address has: most sentences have it not, and a look for addresses is slow to say so."""
_BLANK = re.compile(r"\n[ \t]*\r?\n")
_BEFORE = 400
_REMOVED = "[link removed]"


def safe_text(text: str, sources: Sequence[ScoredChunk]) -> str:
    """Return a text fit to be shown: no HTML, no image, no link, no URL that the sources lack.

    A URL that stands in a source stays, as plain letters. Markdown links lose their target.
    """
    text = clean_text(text)
    # Taking something out can put something together: until nothing is left.
    while ("[" in text or "<" in text) and (stripped := _stripped(text)) != text:
        text = stripped
    if "<" in text and _TAG.search(text):
        text = text.replace("<", "‹").replace(">", "›")
    if not names_address(text):
        return text
    known = _urls(source.chunk.text for source in sources)
    return _URL.sub(lambda found: found[0] if _bare(found[0]) in known else _REMOVED, text)


def names_address(text: str) -> bool:
    """Tell whether a text names an address that a reader could open."""
    return bool(_ADDRESS_SIGN.search(text) and _URL.search(text))


def _stripped(text: str) -> str:
    text = _IMAGE.sub(r"\1", _DEFINITION.sub("", text))
    return _TAG.sub("", _LINK.sub(r"\1", text))


def trusted_passage(text: str, start: int, end: int) -> bool:
    """Tell whether the paragraph around a stretch speaks to people."""
    return not is_suspicious(passage(text, *passage_bounds(text, start, end)))


def passage_bounds(text: str, start: int, end: int) -> tuple[int, int]:
    """Return where the paragraph around a stretch begins and stops."""
    begin = max(text.rfind("\n\n", 0, start), text.rfind("\n\r\n", 0, start)) + 1
    stop = _BLANK.search(text, end)
    return begin, stop.start() if stop else len(text)


def passage(text: str, begin: int, stop: int) -> str:
    """Return a paragraph, with the one before when it announces something ("reply with:")."""
    before = text[:begin].rstrip()
    if before.endswith((":", '"', "“", "„")):
        return f"{before[-_BEFORE:]}\n{text[begin:stop]}"
    return text[begin:stop]


def _urls(texts: Iterable[str]) -> frozenset[str]:
    """Return the addresses in texts; one inside a suspicious passage is not known."""
    return frozenset(
        _bare(found.group())
        for text in texts
        for found in _URL.finditer(text)
        if trusted_passage(text, found.start(), found.end())
    )


def _bare(url: str) -> str:
    return url.rstrip(".,;:!?").lower()
