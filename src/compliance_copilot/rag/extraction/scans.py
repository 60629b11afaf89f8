"""Scanned PDFs by tesseract, which kreuzberg brings along. Its data have to be installed.

Pages are drawn and read one by one: so each keeps its number, and memory holds one of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compliance_copilot.core.files import Extracted, Unreadable
from compliance_copilot.rag.extraction import kinds
from compliance_copilot.rag.extraction.bounds import Bounds
from compliance_copilot.rag.extraction.texts import check_pages, explained, extract, paged

_DOTS_PER_INCH = 200
_LANGUAGES = ("eng", "deu", "fra", "ita", "nld", "por", "spa")
_DATA = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/opt/homebrew/share/tessdata",
    "/usr/local/share/tessdata",
)


def tesseract_data(folders: tuple[str, ...] = _DATA) -> Path | None:
    """Return the folder of tesseract's data, None when no language of ours is installed."""
    return next((place for place in map(Path, folders) if _languages(place)), None)


def read_scan(path: Path, bounds: Bounds, data: Path) -> Extracted:
    """Return what the pictures of a PDF's pages show. Raises Unreadable."""
    check_pages(path, bounds.ocr_pages, "scanned PDF")
    try:
        return paged(_read_pages(path, "+".join(_languages(data))), kinds.PDF, bounds)
    except Unreadable as refusal:
        if refusal.code != "no_text":
            raise
        words = "The PDF has no text layer, and OCR found none in its pictures."
        raise Unreadable("no_text", words) from None


def _languages(folder: Path) -> list[str]:
    return [name for name in _LANGUAGES if (folder / f"{name}.traineddata").is_file()]


def _read_pages(path: Path, language: str) -> Iterator[tuple[int, str, tuple[()]]]:
    config = _config(language)
    for place, picture in _pictures(path):
        yield place + 1, extract(picture, "image/png", config).content, ()


def _pictures(path: Path) -> Iterator[tuple[int, bytes]]:
    import kreuzberg as k

    try:
        yield from k.PdfPageIterator(str(path), dpi=_DOTS_PER_INCH)
    except (k.KreuzbergError, RuntimeError, ValueError) as error:
        raise explained(error) from error


def _config(language: str) -> Any:
    import kreuzberg as k

    return k.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        ocr=k.OcrConfig(backend="tesseract", language=language),
        concurrency=k.ConcurrencyConfig(max_threads=1),
    )
