"""What of a text a person can see. Pure; must not enter: sources, answers, storage."""

import re
import unicodedata

_JOINERS = "\u200c\u200d"

_HIDDEN = re.compile(
    "["
    "\u0000-\u0008\u000b\u000e-\u001f\u007f"  # control characters except tab and line ends
    "\u0080-\u0084\u0086-\u009f"
    "\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0"  # blanks that are letters
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # zero width, bidi, annotation
    "\U000e0000-\U000e007f"  # tags: ASCII that nobody sees
    "\U000e0100-\U000e01ef\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "]+"
)
_HIDDEN_ASCII = bytes(number for number in range(128) if _HIDDEN.match(chr(number)))
_JOINING = """
ARABIC DEVANAGARI BENGALI MALAYALAM TAMIL SINHALA KANNADA TELUGU GUJARATI GURMUKHI ORIYA KHMER
MONGOLIAN SYRIAC
"""
_JOINING_SCRIPTS = tuple(_JOINING.split())


def clean_text(text: str) -> str:
    """Return a text without characters that nobody sees; what is visible stays as it is.

    Zero-width, bidirectional and other controls, tag characters and lone surrogates go. Joiners
    stay where a script or an emoji is written with them. Offsets of citations count in the
    result: clean before storing.
    """
    if text.isascii():
        return text.encode().translate(None, _HIDDEN_ASCII).decode()
    text = text.encode("utf-8", "ignore").decode("utf-8")
    return _HIDDEN.sub(lambda found: _needed(text, found), text)


def _needed(text: str, found: re.Match[str]) -> str:
    """Return the one joiner that the letters on both sides are written with, or nothing."""
    hidden = found.group()
    if len(hidden) != 1 or hidden not in _JOINERS:
        return ""
    before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
    return hidden if _joins(before) and _joins(after) else ""


def _joins(character: str) -> bool:
    if not character:
        return False
    if character >= "\U0001f000" or "\u2600" <= character <= "\u27bf" or character == "\ufe0f":
        return True
    return unicodedata.name(character, "").startswith(_JOINING_SCRIPTS)
