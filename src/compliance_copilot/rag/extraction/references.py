"""Character references in DOCX: kreuzberg 4.10 leaves `&amp;`, `&lt;` and `&#233;` out.

A policy on "R&D" would become one on "RD", and no quote of it would be true. So references are
written as characters before kreuzberg reads the file; those that XML needs stand in as
noncharacters of Unicode, which no text has, and are put back afterwards.
"""

import re
import zipfile
from io import BytesIO
from pathlib import Path

from compliance_copilot.rag.extraction.archives import opened
from compliance_copilot.rag.extraction.bounds import Bounds

_REFERENCE = re.compile(rb"&(amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9a-fA-F]{1,6});")
_NAMED = {b"amp": "&", b"lt": "<", b"gt": ">", b"quot": '"', b"apos": "'"}
_STAND_INS = {"&": "\ufdd0", "<": "\ufdd1", ">": "\ufdd2", '"': "\ufdd3", "'": "\ufdd4"}
_BACK = str.maketrans({stand_in: character for character, stand_in in _STAND_INS.items()})
_PRINTABLE = 32


def without_references(path: Path, bounds: Bounds) -> bytes:
    """Return a DOCX file in which every reference in its texts is a character."""
    target = BytesIO()
    with opened(path, bounds) as source, zipfile.ZipFile(target, "w") as copy:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.startswith("word/") and member.filename.endswith(".xml"):
                content = _REFERENCE.sub(_character, content)
            copy.writestr(member, content)
    return target.getvalue()


def put_back(text: str) -> str:
    """Return a text with the characters that stood in for others."""
    return text.translate(_BACK)


def _character(found: re.Match[bytes]) -> bytes:
    name = found.group(1)
    if name in _NAMED:
        return _STAND_INS[_NAMED[name]].encode()
    number = int(name[2:], 16) if name[1:2] == b"x" else int(name[1:])
    if number < _PRINTABLE or number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return b" "
    return _STAND_INS.get(chr(number), chr(number)).encode()
