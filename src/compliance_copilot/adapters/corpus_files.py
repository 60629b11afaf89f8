"""Files of arrays that all workers map: one per tenant and corpus version, bounded in bytes.

A file appears whole or not at all (written beside, synced, renamed) and says what it was made of
(`stamp`) and its checksum; what does not fit is ignored and removed. A file that is removed while
others map it stays readable to them until they let go. Blocking: call from a thread, but for the
locks: a thread would hold one for nobody when its waiter is cancelled. Must not enter: the
database, scores.
"""

import mmap
import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
from numpy.typing import NDArray

from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.filelock import FileLock

_MAGIC = b"CCHOT001"
_ALIGNMENT = 64
_SUFFIX = ".corpus"
_LEFTOVER_SECONDS = 600.0
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class CorpusFiles:
    """A folder of our own, with a folder per tenant in it."""

    folder: Path
    max_bytes: int

    def prepare(self) -> None:
        """Make the folder, closed to others, and remove what crashes have left in it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for path in self.folder.glob("*/.*.new"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()
        self._evict(keep=None)

    def path(self, tenant_id: TenantId, version: int) -> Path:
        """Return where a corpus is kept."""
        return self.folder / tenant_id / f"{version}{_SUFFIX}"

    def building(self, tenant_id: TenantId) -> FileLock | None:
        """Return the lock of whoever builds this tenant's file, None when another holds it."""
        return self._lock(tenant_id, "lock")

    def reading(self, tenant_id: TenantId) -> FileLock | None:
        """Return the lock of whoever reads what a corpus holds, None when another has it."""
        return self._lock(tenant_id, "reading.lock")

    def write(self, tenant_id: TenantId, version: int, stamp: str, arrays: Arrays) -> bool:
        """Write a corpus, remove its older versions and whatever no longer fits.

        Returns False, and writes nothing, when it is larger than all the room there is.
        """
        head, parts = _laid_out(stamp, arrays)
        if len(head) + sum(map(len, parts)) > self.max_bytes:
            return False
        target = self.path(tenant_id, version)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        beside = target.with_name(f".{uuid4().hex}.new")
        try:
            _write_synced(beside, [head, *parts])
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        for older in target.parent.glob(f"*{_SUFFIX}"):
            if older != target:
                older.unlink(missing_ok=True)
        self._evict(keep=target)
        return True

    def read(self, tenant_id: TenantId, version: int, stamp: str) -> Arrays | None:
        """Map a corpus. None when there is none, or a broken one, or one made of other rows."""
        path = self.path(tenant_id, version)
        try:
            arrays = _mapped(path, stamp)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            arrays = None
        if arrays is None:
            path.unlink(missing_ok=True)
        return arrays

    def latest(self, tenant_id: TenantId) -> Arrays | None:
        """Map whichever corpus of a tenant there is, of any version; None without a sound one."""
        for path in (self.folder / tenant_id).glob(f"*{_SUFFIX}"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                if (arrays := _mapped(path)) is not None:
                    return arrays
        return None

    def identity(self, tenant_id: TenantId, version: int) -> int:
        """Return what changes when a file is written anew, 0 without one."""
        with suppress(FileNotFoundError):
            return self.path(tenant_id, version).stat().st_ino
        return 0

    def used(self, tenant_id: TenantId, version: int) -> bool:
        """Note that a corpus is in use; False when its file is gone, so it has to be let go."""
        try:
            os.utime(self.path(tenant_id, version))
        except FileNotFoundError:
            return False
        return True

    def exists(self, tenant_id: TenantId, version: int) -> bool:
        """Tell whether a corpus still has its file."""
        return self.path(tenant_id, version).exists()

    def drop(self, tenant_id: TenantId) -> int:
        """Remove everything that is kept of a tenant; return how many corpora that were."""
        home = self.folder / tenant_id
        removed = 0
        for path in [*home.glob(f"*{_SUFFIX}"), *home.glob(".*.new")]:
            removed += path.suffix == _SUFFIX
            path.unlink(missing_ok=True)
        return removed

    def has_room(self, more: int) -> bool:
        """Tell whether so many bytes more push nothing out."""
        return self.nbytes() + more <= self.max_bytes

    def nbytes(self) -> int:
        """Bytes on disk now."""
        return sum(size for _, size, _ in self._present())

    def _lock(self, tenant_id: TenantId, name: str) -> FileLock | None:
        (self.folder / tenant_id).mkdir(mode=0o700, exist_ok=True)
        lock = FileLock(self.folder / tenant_id / name)
        if lock.try_exclusive():
            return lock
        lock.close()
        return None

    def _present(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self.folder.glob(f"*/*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found

    def _evict(self, *, keep: Path | None) -> None:
        present = sorted(self._present(), key=lambda entry: (entry[2] == keep, entry[0]))
        total = sum(size for _, size, _ in present)
        for _, size, path in present:
            if total <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _laid_out(stamp: str, arrays: Arrays) -> tuple[bytes, list[bytes]]:
    """Return the head (magic, length, description) and the body's parts, each on a boundary."""
    places: dict[str, Any] = {}
    parts: list[bytes] = []
    at = crc = 0
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        places[name] = {"at": at, "shape": array.shape, "kind": array.dtype.str}
        padded = raw + b"\0" * (-len(raw) % _ALIGNMENT)
        crc = zlib.crc32(padded, crc)
        parts.append(padded)
        at += len(padded)
    told = orjson.dumps({"stamp": stamp, "arrays": places, "size": at, "crc": crc})
    head = _MAGIC + len(told).to_bytes(8, "little") + told
    return head + b"\0" * (-len(head) % _ALIGNMENT), parts


def _write_synced(path: Path, parts: list[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def _mapped(path: Path, stamp: str | None = None) -> Arrays | None:
    """Return its arrays; None when it is broken, or not of this stamp where one is asked for.

    Raises ValueError, KeyError or TypeError for what is no such file."""
    with path.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(whole)
    length = int.from_bytes(view[8:16], "little")
    if view[:8] != _MAGIC or 16 + length > len(view):
        return None
    told = orjson.loads(view[16 : 16 + length])
    start = 16 + length + -(16 + length) % _ALIGNMENT
    body = view[start:]
    if stamp is not None and told["stamp"] != stamp:
        return None
    if len(body) != told["size"] or zlib.crc32(body) != told["crc"]:
        return None
    return {name: _array(body, place) for name, place in told["arrays"].items()}


def _array(body: memoryview, place: Mapping[str, Any]) -> NDArray[Any]:
    shape = tuple(place["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    kind = np.dtype(place["kind"])
    if not count:
        return np.zeros(shape, dtype=kind)
    return np.frombuffer(body, dtype=kind, count=count, offset=place["at"]).reshape(shape)
