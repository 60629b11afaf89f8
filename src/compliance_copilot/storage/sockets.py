"""The private folder of the server's Unix socket, and how a closed folder is shown to it."""

import hashlib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.installation import SystemUser

PORT = 5432  # only a part of the socket's name
NAME = f".s.PGSQL.{PORT}"
LIMIT_BYTES = 103  # the shortest of the platforms we run on (Linux: 107)
PLAIN = re.compile(r"[A-Za-z0-9/._-]+")  # nothing that a connection string or postgres could split


def choose_folder(data_dir: Path, major: int, user: SystemUser | None) -> Path:
    """Return where the socket goes: in DATA_DIR, or where that does not fit, a private folder.

    The fallback's name is drawn from DATA_DIR, so that all processes agree on it; `make_folder`
    refuses one that somebody else made.
    """
    near = data_dir / f"postgres-{major}.socket"
    fits = len(os.fsencode(near / NAME)) <= LIMIT_BYTES and PLAIN.fullmatch(str(near))
    if fits and (user is None or user.may_enter(data_dir)):
        return near
    mark = hashlib.sha256(os.fsencode(near)).hexdigest()[:20]
    # Not TMPDIR first: the service and a command line beside it may have different ones.
    shelves = (Path("/tmp"), Path("/var/tmp"), Path(tempfile.gettempdir()))  # noqa: S108 - a private folder in it
    shelf = next((shelf for shelf in shelves if os.access(shelf, os.W_OK)), shelves[0])
    return shelf / f"compliance-copilot-{mark}"


def make_folder(folder: Path, user: SystemUser | None) -> None:
    """Make the folder, mode 0700 and its server's own, and empty it of a dead server's socket."""
    owner = os.geteuid() if user is None else user.uid
    try:
        folder.mkdir(mode=0o700)
        if user is not None:
            os.chown(folder, user.uid, user.gid)
    except FileExistsError:
        found = folder.lstat()
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        if not private or found.st_uid != owner:
            raise SetupError(
                f"{folder} is not the database's own folder; remove it or set a shorter DATA_DIR."
            ) from None
    for name in (NAME, f"{NAME}.lock"):
        (folder / name).unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove what a stopped server leaves."""
    shutil.rmtree(folder, ignore_errors=True)


def answers(address: Path) -> bool:
    """Tell whether anybody accepts connections at the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True


@contextmanager
def visible_folder(folder: Path, user: SystemUser | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give the path by which the server's user reaches `folder`, and descriptors to hand on.

    Below a folder closed to that user (/root) the path is a descriptor that the service, as root,
    has opened: the user gets this one folder and nothing around it is opened wider.
    """
    if user is None or user.may_enter(folder):
        yield str(folder), ()
        return
    if not sys.platform.startswith("linux"):
        raise SetupError(
            f"The user {user.name}, as whom PostgreSQL runs, cannot enter {folder.parent}; "
            "set DATA_DIR to a folder outside closed ones, or start as an ordinary user."
        )
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)
