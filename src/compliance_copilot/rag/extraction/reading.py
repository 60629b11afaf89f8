"""What the reading process does with one file. Nothing here imports more than it needs."""

import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from compliance_copilot.core.files import Extracted, Unreadable
from compliance_copilot.rag.extraction import archives, kinds, scans, tables, texts
from compliance_copilot.rag.extraction.bounds import Bounds, over_size, too_much_text


def begin(memory_bytes: int, ocr_data: Path | None) -> None:
    """Bound this process's memory, once, before it reads anything; and let it say nothing."""
    logging.disable(logging.CRITICAL)  # a reader's complaints may quote the file
    if ocr_data is not None:
        os.putenv("TESSDATA_PREFIX", str(ocr_data))  # where kreuzberg's tesseract looks
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read(path: Path, bounds: Bounds) -> Extracted:
    """Return a file's text. Raises Unreadable; whatever else happens ends in it, too."""
    return _guarded(bounds.seconds, _read, path, bounds)


def read_scan(path: Path, bounds: Bounds, ocr_data: Path) -> Extracted:
    """Return what the pages of a PDF show. Raises Unreadable as `read` does."""
    return _guarded(bounds.ocr_seconds, scans.read_scan, path, bounds, ocr_data)


def _guarded(seconds: float, work: Callable[..., Extracted], *arguments: object) -> Extracted:
    try:
        _bound_time(seconds)
        return work(*arguments)
    except MemoryError as error:
        gc.collect()
        raise Unreadable("too_large", "Reading it takes more memory than a file may.") from error
    except RecursionError as error:
        raise Unreadable("damaged", "It is nested deeper than can be read.") from error
    except Unreadable as known:
        # Without what it came from: that may not be fit to travel between processes.
        raise Unreadable(known.code, known.words) from None


def _read(path: Path, bounds: Bounds) -> Extracted:
    kind = _kind(path, bounds)
    if kind == kinds.PDF:
        return texts.read_pdf(path, bounds)
    if kind == kinds.XLSX:
        return tables.read_spreadsheet(path, bounds)
    if kind == kinds.CSV:
        return tables.read_csv(path, bounds)
    if kind == kinds.TEXT:
        return texts.read_plain(path, bounds)
    if kind == kinds.ZIP:
        raise Unreadable("nested_archive", "An archive inside an archive is not unpacked.")
    return texts.read_document(path, kind, bounds)


def unpack(path: Path, folder: Path, bounds: Bounds) -> list[tuple[str, Path | Unreadable]] | None:
    """Unpack a ZIP file into a folder; None when it is none. Raises Unreadable."""
    _bound_time(bounds.seconds)
    return _unpack(path, folder, bounds)


def _unpack(path: Path, folder: Path, bounds: Bounds) -> list[tuple[str, Path | Unreadable]] | None:
    is_zip = _kind(path, bounds) == kinds.ZIP
    return archives.unpack(path, folder, bounds) if is_zip else None


def _kind(path: Path, bounds: Bounds) -> str:
    """Return a file's media type. Raises Unreadable, also when its size alone tells enough."""
    kind, size = kinds.kind_of(path, bounds), path.stat().st_size
    if kind != kinds.ZIP and size > bounds.file_bytes:
        raise over_size(bounds)
    if kind == kinds.TEXT and size > bounds.plain_bytes:
        raise too_much_text(bounds)
    return kind


def _bound_time(seconds: float) -> None:
    """Let the kernel end this process when one file takes too long on the processor."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
