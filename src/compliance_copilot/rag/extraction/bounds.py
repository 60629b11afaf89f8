"""How much of a machine one file may use."""

from dataclasses import dataclass

from compliance_copilot.core.files import Unreadable

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one file may take and give. A reader that goes beyond is ended from outside."""

    seconds: float = 9.0
    ocr_seconds: float = 300.0
    memory_bytes: int = 1024 * MEBIBYTE
    file_bytes: int = 50 * MEBIBYTE
    text_characters: int = 4_000_000
    pages: int = 5_000
    ocr_pages: int = 200
    cells: int = 1_000_000
    members: int = 5_000
    unpacked_bytes: int = 200 * MEBIBYTE
    unpacked_ratio: int = 200
    """Above a mebibyte, a member of an archive may not grow by more than this factor."""

    @property
    def plain_bytes(self) -> int:
        """A plain text of more bytes has too many characters in any encoding."""
        return 4 * self.text_characters


def over_size(bounds: Bounds) -> Unreadable:
    """Return the refusal of a file with too many bytes."""
    return Unreadable("too_large", f"A file has at most {bounds.file_bytes // MEBIBYTE} MiB.")


def too_much_text(bounds: Bounds) -> Unreadable:
    """Return the refusal of a file with too many characters."""
    words = f"It gives more than {bounds.text_characters} characters; cut it into several files."
    return Unreadable("too_large", words)
