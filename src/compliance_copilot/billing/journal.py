"""Settlements that the database could not take, kept on disk until it can.

Append-only JSON lines, one file for each process, each line on stable storage before `append`
returns. Settling is idempotent, so a line may be replayed any number of times. Must not enter:
what a settlement means.
"""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.filelock import FileLock

LOG = logging.getLogger(__name__)
Replayer = Callable[[TenantId, Mapping[str, Any]], Awaitable[None]]


class Journal:
    """One process's file, and the files that dead processes left in the same folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._writing = asyncio.Lock()
        self._lock = _own_file(folder)
        self.pending = 0
        """Lines of this process that wait for the database."""
        self.nbytes = 0
        """What they take on disk."""
        self._since: float | None = None

    async def append(self, tenant_id: TenantId, settlement: Mapping[str, Any]) -> None:
        """Keep a settlement; on return it survives a power cut. Raises OSError."""
        line = orjson.dumps({"tenant_id": tenant_id, "settlement": settlement}) + b"\n"
        async with self._writing:
            await asyncio.to_thread(_write_through, self._lock.path, line)
            self.pending += 1
            self.nbytes += len(line)
            self._since = self._since or time.monotonic()

    async def replay(self, settle: Replayer) -> int:
        """Settle every line of this process and forget them; return how many.

        What `settle` raises ends the replay, and everything is kept. Lines may be added meanwhile:
        then none is forgotten until the next replay.
        """
        if not self.pending:
            return 0
        async with self._writing:
            found, lines = self.pending, await asyncio.to_thread(_lines_of, self._lock.path)
        replayed = await _replay(self._lock.path.name, lines, settle)
        async with self._writing:
            if self.pending == found:
                await asyncio.to_thread(os.truncate, self._lock.path, 0)
                self.pending, self.nbytes, self._since = 0, 0, None
        return replayed

    @property
    def age_seconds(self) -> float:
        """Seconds since the oldest line of this process, 0 when none waits."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    async def adopt(self, settle: Replayer) -> int:
        """Settle what dead processes left, then delete their files; return how many lines."""
        replayed = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == self._lock.path:
                continue
            lock = FileLock(path)
            try:
                if lock.try_exclusive():  # else its process lives and replays it by itself
                    lines = await asyncio.to_thread(_lines_of, path)
                    replayed += await _replay(path.name, lines, settle)
                    path.unlink(missing_ok=True)
            finally:
                lock.close()
        return replayed

    def close(self) -> None:
        """Leave the file when it still holds something, else delete it."""
        if not self.pending:
            self._lock.path.unlink(missing_ok=True)
        self._lock.close()


def _own_file(folder: Path) -> FileLock:
    while True:
        lock = FileLock(folder / f"{os.getpid()}-{uuid4().hex}.jsonl")
        # Somebody who looks for files of the dead may be faster; then this one is lost to him.
        if lock.try_exclusive() and lock.path.exists():
            _sync_folder(folder)
            return lock
        lock.close()


def _write_through(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # folders cannot be opened there; NTFS journals its own entries
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


async def _replay(name: str, lines: Sequence[bytes], settle: Replayer) -> int:
    for number, line in enumerate(lines, start=1):
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            # Cut off while it was written: `append` had not returned, nobody relied on it.
            LOG.error("journal %s: line %d is torn and left out", name, number)
            continue
        await settle(entry["tenant_id"], entry["settlement"])
    return len(lines)
