"""Where tests keep databases: in memory where that can be, for disks are slow at small files."""

import os
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
ENOUGH_BYTES = 2 * 2**30


def quick_place(memory: Path = MEMORY, enough_bytes: int = ENOUGH_BYTES) -> str:
    """Return a folder in memory with room, from which programs may run; else the usual one."""
    if not os.access(memory, os.W_OK):
        return tempfile.gettempdir()
    room = os.statvfs(memory)
    enough = room.f_bavail * room.f_frsize >= enough_bytes
    return str(memory) if enough and not room.f_flag & os.ST_NOEXEC else tempfile.gettempdir()
