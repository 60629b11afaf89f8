"""Locks between processes that the kernel releases when their holder dies; nothing else."""

import os
import sys
import time
from pathlib import Path
from threading import Event

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError

POLL_SECONDS = 0.02


class FileLock:
    """A file that many may hold shared or one may hold exclusively; no call ever blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Closed on exec, so that no child keeps a lock alive.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    def try_exclusive(self) -> bool:
        """Take the lock alone, or tell that others hold it; trying may lose a shared hold."""
        return _try_lock(self._fd, shared=False)

    def try_shared(self) -> bool:
        """Take the lock beside others, or tell that one holds it exclusively."""
        return _try_lock(self._fd, shared=True)

    def wait_exclusive(self, deadline: Deadline, abandon: Event) -> None:
        """Take the lock alone before the deadline, or raise `SetupError`."""
        while not self.try_exclusive():
            if abandon.is_set() or deadline.passed:
                msg = f"Another process has held {self.path} for too long; stop it and start again."
                raise SetupError(msg)
            time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Let go, also for children that inherited the descriptor by a plain fork."""
        _unlock(self._fd)

    def close(self) -> None:
        """Let go and close the file. The file stays: removing a lock file is a race."""
        self.release()
        os.close(self._fd)


if sys.platform == "win32":
    # Not run on Windows by this project's tests. There are no shared locks there: each holder
    # takes one free byte of SLOTS, and to be alone is to take them all.
    import msvcrt

    SLOTS = 64

    def _try_lock(fd: int, *, shared: bool) -> bool:
        _unlock(fd)
        width = 1 if shared else SLOTS
        for start in range(0, SLOTS, width):
            os.lseek(fd, start, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_NBLCK, width)
            except OSError:
                continue
            return True
        return False

    def _unlock(fd: int) -> None:
        for start, width in [(0, SLOTS), *((slot, 1) for slot in range(SLOTS))]:
            os.lseek(fd, start, os.SEEK_SET)
            try:
                msvcrt.locking(fd, msvcrt.LK_UNLCK, width)
            except OSError:
                continue  # not ours

else:
    import fcntl

    def _try_lock(fd: int, *, shared: bool) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
