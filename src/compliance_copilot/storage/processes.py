"""What the operating system says about a process: does it live, is it our PostgreSQL."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform.startswith("linux")
DELETED = " (deleted)"


def noted_pid(folder: Path) -> int | None:
    """Return the pid that a cluster's `postmaster.pid` names; it may be anyone's by now."""
    first = _noted_line(folder, 0)
    return int(first) if first.isdigit() and int(first) > 0 else None


def noted_socket_dir(folder: Path) -> Path | None:
    """Return the socket folder that a cluster's `postmaster.pid` names."""
    line = _noted_line(folder, 4)
    return Path(line) if line else None


def noted_ready(folder: Path, pid: int) -> bool:
    """Tell whether the server `pid` has noted that it takes connections."""
    return noted_pid(folder) == pid and _noted_line(folder, 7) == "ready"


def _noted_line(folder: Path, number: int) -> str:
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
    except OSError:
        return ""
    return lines[number].strip() if len(lines) > number else ""


def is_running(pid: int) -> bool:
    """Tell whether the process lives; one that is dead and not yet reaped does not."""
    if LINUX:
        try:
            status = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False
        return status.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def reap(pid: int) -> None:
    """Take note of an ended child, so that it does not stay in the process table."""
    with suppress(ChildProcessError):  # another process started it
        os.waitpid(pid, 0)


def is_postgres_in(pid: int, folder: Path) -> bool:
    """Tell whether the process is a postgres whose data directory is `folder`."""
    if not LINUX:
        command = _command_line(pid)
        return "postgres" in command.partition(" -D ")[0] and f" -D {folder} " in f"{command} "
    try:
        place = os.readlink(f"/proc/{pid}/cwd").removesuffix(DELETED)
    except OSError:  # dead, or another user's
        return False
    return place == str(folder) and Path(_program_path(pid)).name == "postgres"


def signal_postgres(pid: int, folder: Path, kind: signal.Signals) -> None:
    """Send a signal to the server of `folder`; to nobody when the pid is not (or no more) it."""
    _signal_checked(pid, kind, lambda: is_postgres_in(pid, folder))


def end_sessions_in(folder: Path) -> None:
    """End the sessions that outlived their server: a long statement does not notice its death.

    The service may be root, so one wrong answer must not be enough to end a stranger: owner, title
    and folder of a process are asked separately, and each of them alone rules strangers out. Only
    where /proc shows them; elsewhere PostgreSQL waits for them.
    """
    if not LINUX or not folder.exists():
        return
    owner = folder.stat().st_uid
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            _end_session(int(entry.name), folder, owner)


def _end_session(pid: int, folder: Path, owner: int) -> None:
    def is_session() -> bool:
        process = Path(f"/proc/{pid}")
        try:
            return (
                owner != 0  # PostgreSQL never runs as root
                and process.stat().st_uid == owner
                and (process / "cmdline").read_bytes().startswith(b"postgres: ")
                and is_postgres_in(pid, folder)
            )
        except OSError:
            return False

    if is_session():
        _signal_checked(pid, signal.SIGKILL, is_session)


def _signal_checked(pid: int, kind: signal.Signals, is_meant: Callable[[], bool]) -> None:
    """Check and signal the same process, even if it ends in between and its pid is reused."""
    try:
        handle = os.pidfd_open(pid) if LINUX else None
    except ProcessLookupError:
        return
    except OSError:  # a kernel without pidfd
        handle = None
    try:
        if is_meant():
            with suppress(ProcessLookupError):
                if handle is None:
                    os.kill(pid, kind)
                else:
                    signal.pidfd_send_signal(handle, kind)
    finally:
        if handle is not None:
            os.close(handle)


def has_lost_its_program(pid: int) -> bool:
    """Tell whether the file that the process runs is gone: postgres loads no extension then."""
    if not LINUX:
        return not Path(_command_line(pid).partition(" -D ")[0]).exists()
    path = os.readlink(f"/proc/{pid}/exe")
    return path.endswith(DELETED) or not Path(path).exists()


def _program_path(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(DELETED)
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    command = ["/bin/ps", "-ww", "-p", str(pid), "-o", "command="]
    found = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - our own words
    return found.stdout.strip()
