"""What a file gives: its text with the places it came from, or the reason why it gives none."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """Where the text from `start` on comes from, until the next section starts.

    `headings` outermost first; for a spreadsheet the innermost is the cell range
    (`Sheet1!A1:D20`). `page` counts from 1.
    """

    start: int
    headings: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Extracted:
    """A file's text as it is stored; without sections its headings are Markdown's."""

    text: str
    media_type: str
    sections: Sequence[Section] = ()


class Unreadable(Exception):
    """A file gives no text: a stable code, and words for the person who sent it."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(code, words)
        self.code = code
        self.words = words

    def __str__(self) -> str:
        return f"{self.code}: {self.words}"


NEEDS_OCR = "needs_ocr"
"""The code of a file that shows its text as a picture."""
