"""The service's side of reading files: processes that end when a file is too much for them."""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from compliance_copilot.core import cores
from compliance_copilot.core.files import NEEDS_OCR, Extracted, Unreadable
from compliance_copilot.rag.extraction import reading
from compliance_copilot.rag.extraction.bounds import Bounds

_TASKS_OF_A_PROCESS = 500
DEFAULT_BOUNDS = Bounds()
T = TypeVar("T")


class Extractor:
    """Reads files in processes of their own; they start with the first file."""

    def __init__(
        self, bounds: Bounds = DEFAULT_BOUNDS, *, processes: int = 1, ocr_data: Path | None = None
    ) -> None:
        self.bounds = bounds
        self._processes = processes
        self._ocr_data = ocr_data
        self._pool: Any = None
        self._lock = threading.Lock()

    async def extract(self, path: Path) -> Extracted:
        """Return a file's text. Raises Unreadable: refused, too much, or its reader died of it."""
        try:
            return await self._run(reading.read, path, self.bounds, seconds=self.bounds.seconds)
        except Unreadable as refusal:
            if refusal.code != NEEDS_OCR or self._ocr_data is None:
                raise
        seconds = self.bounds.ocr_seconds
        return await self._run(
            reading.read_scan, path, self.bounds, self._ocr_data, seconds=seconds
        )

    async def unpack(self, path: Path, folder: Path) -> list[tuple[str, Path | Unreadable]] | None:
        """Unpack a ZIP file into a folder: (name, path or refusal); None when it is no ZIP.

        Raises Unreadable, also for another file that is larger than anything that is read.
        """
        if _is_plain(path, self.bounds.plain_bytes):
            return None  # most files: no other process need be asked
        seconds = self.bounds.seconds
        return await self._run(reading.unpack, path, folder, self.bounds, seconds=seconds)

    async def _run(self, work: Callable[..., T], *arguments: object, seconds: float) -> T:
        """Run in a process of the pool; one that dies is replaced, and the file tried once more."""
        from pebble import ProcessExpired

        for last in (False, True):
            try:
                with cores.roaming():  # its first call starts threads, and they the processes
                    future = self._started().schedule(work, args=arguments, timeout=seconds)
                result: T = await asyncio.wrap_future(future)
            except TimeoutError:
                words = f"Reading it takes more than {seconds:g} seconds."
                raise Unreadable("too_slow", words) from None
            except ProcessExpired:
                if last:
                    words = "The program that reads it died of it, twice; it may be damaged."
                    raise Unreadable("crashed", words) from None
            else:
                return result
        raise AssertionError("unreachable")

    def _started(self) -> Any:
        from pebble import ProcessPool

        with self._lock:
            if self._pool is None:
                # spawn: a fork of a process with threads may inherit a lock that nobody frees.
                self._pool = ProcessPool(
                    max_workers=self._processes,
                    max_tasks=_TASKS_OF_A_PROCESS,
                    context=multiprocessing.get_context("spawn"),
                    initializer=reading.begin,
                    initargs=(self.bounds.memory_bytes, self._ocr_data),
                )
            return self._pool

    async def close(self) -> None:
        """End the processes, also one at work."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            await asyncio.to_thread(pool.join)


def _is_plain(path: Path, most_bytes: int) -> bool:
    with path.open("rb") as file:
        return file.read(2) != b"PK" and path.stat().st_size <= most_bytes
