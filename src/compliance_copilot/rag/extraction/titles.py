"""What a file's text is called: by its first line if that reads like a title, else by its name."""

import re
from pathlib import PurePosixPath

from compliance_copilot.core.files import Extracted
from compliance_copilot.rag.extraction import kinds

_TABLES = frozenset({kinds.CSV, kinds.XLSX})
_MARKS = re.compile(r"^[#*_\s]+|[*_\s]+$")
_SUBJECT = re.compile(r"\*\*Subject\*\*:[ \t]*(\S.*)")
_LEAST, _MOST = 3, 120
_NO_TITLE_BEGINS = tuple("|{[<>`-+=~")
_NO_TITLE_ENDS = tuple(".,;:!|")


def title_of(name: str, extracted: Extracted) -> str:
    """Return a title for what was read from the file of this name."""
    first = _first_line(extracted.text)
    if extracted.media_type == kinds.EMAIL and (subject := _SUBJECT.match(first)):
        return subject.group(1)[:_MOST]
    line = _MARKS.sub("", first)
    if extracted.media_type not in _TABLES and _reads_like_a_title(line):
        return line
    path = PurePosixPath(name)
    return path.stem or name


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _reads_like_a_title(line: str) -> bool:
    return (
        _LEAST <= len(line) <= _MOST
        and any(character.isalpha() for character in line)
        and not line.startswith(_NO_TITLE_BEGINS)
        and not line.endswith(_NO_TITLE_ENDS)
    )
