"""How much of a machine one file may use."""

from dataclasses import dataclass

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
