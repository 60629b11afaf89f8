"""ZIP files: what is in them, and whether it may be unpacked; also the shell of office files."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from compliance_copilot.core.files import Unreadable
from compliance_copilot.rag.extraction.bounds import MEBIBYTE, Bounds, over_size

_ENCRYPTED = 0x1
_STEP = 256 * 1024
_NESTED = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
    b"\x28\xb5\x2f\xfd",
)
_OFFICE = "[Content_Types].xml"


@contextmanager
def opened(path: Path, bounds: Bounds) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP whose directory is within bounds. Raises Unreadable."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive.infolist(), bounds)
            yield archive
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise Unreadable("damaged", "The archive cannot be read; it is damaged.") from error


def names_of(path: Path, bounds: Bounds) -> frozenset[str]:
    """Return the names inside a ZIP. Raises Unreadable."""
    with opened(path, bounds) as archive:
        return frozenset(archive.namelist())


def _check(members: list[zipfile.ZipInfo], bounds: Bounds) -> None:
    if len(members) > bounds.members:
        raise Unreadable("too_large", f"The archive holds more than {bounds.members} entries.")
    if sum(member.file_size for member in members) > bounds.unpacked_bytes:
        raise Unreadable("archive_bomb", _too_much(bounds))
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            raise Unreadable("encrypted", "The archive is encrypted; send it without a password.")
        grown = member.file_size > MEBIBYTE
        if grown and member.file_size > bounds.unpacked_ratio * max(1, member.compress_size):
            raise Unreadable(
                "archive_bomb", "The archive holds something compressed beyond reason."
            )


def _too_much(bounds: Bounds) -> str:
    return f"The archive unpacks to more than {bounds.unpacked_bytes // MEBIBYTE} MiB."


def unpack(path: Path, folder: Path, bounds: Bounds) -> list[tuple[str, Path | Unreadable]]:
    """Write the files of a ZIP into a folder under names of ours; return (its name, our path).

    Folders and what operating systems add are left out; a name that leads out of the archive, and
    an archive inside it, come back as Unreadable. Raises Unreadable for the archive itself.
    """
    found: list[tuple[str, Path | Unreadable]] = []
    left = bounds.unpacked_bytes
    with opened(path, bounds) as archive:
        for place, member in enumerate(archive.infolist()):
            if member.is_dir() or _is_clutter(member.filename):
                continue
            name, fault = _safe_name(member.filename)
            if fault is None and member.file_size > bounds.file_bytes:
                fault = over_size(bounds)
            if fault is not None:
                found.append((name, fault))
                continue
            target = folder / f"{place}"
            with archive.open(member) as source:
                left -= _copy(source, target, min(left, bounds.file_bytes), bounds)
            found.append((name, _refused(target) or target))
    return found


def _copy(source: IO[bytes], target: Path, most: int, bounds: Bounds) -> int:
    size = 0
    with target.open("wb") as file:
        while piece := source.read(_STEP):
            size += len(piece)
            if size > most:  # the directory lied
                raise Unreadable("archive_bomb", _too_much(bounds))
            file.write(piece)
    return size


def _refused(target: Path) -> Unreadable | None:
    """Tell an archive inside an archive; office files are archives, too, and are let in."""
    with target.open("rb") as file:
        head = file.read(8)
    if not head.startswith(_NESTED):
        return None
    if head.startswith(b"PK") and zipfile.is_zipfile(target):
        with zipfile.ZipFile(target) as inner:
            names = frozenset(inner.namelist())
        if _OFFICE in names or "mimetype" in names:
            return None
    return Unreadable("nested_archive", "An archive inside an archive is not unpacked.")


def _safe_name(name: str) -> tuple[str, Unreadable | None]:
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0]
    shown = "/".join(part for part in path.parts if part not in {"/", ".."})
    if outside:
        return shown, Unreadable("unsafe_name", "Its name leads out of the archive.")
    return shown, None


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)
