"""One PostgreSQL cluster on disk and the server that runs it. Blocking; its callers hold the locks.

A pid alone proves nothing: it may have been reused. A process is taken for our server only when
the operating system says that it runs `postgres` in our cluster's folder.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import ClassVar, Self

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage import processes, sockets
from compliance_copilot.storage.installation import (
    WINDOWS,
    SystemUser,
    child_options,
    program,
    system_user_for,
    usable_installation,
)

SUPERUSER = "postgres"
READY_SECONDS = 120  # crash recovery replays the write-ahead log first
STOP_SECONDS = 60
UNSEEN_SECONDS = 5
POLL_SECONDS = 0.01
LOG_LIMIT_BYTES = 16 * 1024 * 1024
NO_PROCESS = 2_147_483_647  # larger than any pid a kernel gives
OPTIONS: Mapping[str, str] = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements may hold a tenant's text
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's place, and what its server is started with."""

    # Trust is for those who can enter the socket's folder: the server's user and root.
    hba: ClassVar[str] = "local all all trust\nlocal replication all trust\n"

    data_dir: Path
    major: int
    installation: Path
    user: SystemUser | None
    socket_dir: Path
    options: Mapping[str, str]

    @classmethod
    def find(
        cls, data_dir: Path, major: int, installation: Path, options: Mapping[str, str]
    ) -> Self:
        """Return the cluster of a DATA_DIR, existing or not, with what this user can run it by."""
        user = system_user_for(data_dir / f"postgres-{major}")
        usable = usable_installation(installation, user, data_dir)
        socket_dir = sockets.choose_folder(data_dir, major, user)
        return cls(data_dir, major, usable, user, socket_dir, dict(options))

    @property
    def folder(self) -> Path:
        """The cluster itself (PostgreSQL's data directory)."""
        return self.data_dir / f"postgres-{self.major}"

    @property
    def log(self) -> Path:
        """The file the server writes its log to."""
        return self.data_dir / "postgres.log"

    def address(self) -> tuple[str, int, str | None]:
        """Return host, port and password for clients."""
        return str(self.socket_dir), sockets.PORT, None

    def serving_pid(self) -> int | None:
        """Return the pid of the server that runs this cluster, None when there is none."""
        pid = processes.noted_pid(self.folder)
        return pid if pid is not None and processes.is_postgres_in(pid, self.folder) else None

    def noted_socket_dir(self) -> Path:
        """Return the socket folder of the running server."""
        return processes.noted_socket_dir(self.folder) or self.socket_dir

    def has_lost_its_program(self, pid: int) -> bool:
        """Tell whether the server's installation is gone: it can load no extension then."""
        return processes.has_lost_its_program(pid)

    def has_our_options(self) -> bool:
        """Tell whether the running server was started with the options we would give."""
        given = (self.folder / "postmaster.opts").read_text()
        return all(f'"{name}={value}"' in given for name, value in self.all_options().items())

    def make_if_missing(self) -> None:
        """Run initdb once; a cluster appears whole or not at all."""
        if self.folder.exists():
            return self._check_version()
        for other in self.data_dir.glob("postgres-*/PG_VERSION"):
            if re.fullmatch(r"postgres-\d+", other.parent.name):
                raise SetupError(
                    f"{other.parent} was made by another PostgreSQL, {self.major} is asked for; "
                    "dump and restore it, or set DATA_DIR to another folder."
                )
        for left in self.data_dir.glob(f"{self.folder.name}.new.*"):  # by a start that was killed
            shutil.rmtree(left, ignore_errors=True)
        making = Path(tempfile.mkdtemp(prefix=f"{self.folder.name}.new.", dir=self.data_dir))
        if self.user is not None:
            os.chown(making, self.user.uid, self.user.gid)
        try:
            self._initdb(making)
            (making / "pg_hba.conf").write_text(self.hba)
            _flush(making / "pg_hba.conf")
            making.rename(self.folder)
            _flush(self.data_dir)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return None

    def _check_version(self) -> None:
        try:
            found = (self.folder / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            msg = f"{self.folder} is no PostgreSQL cluster; move it away and start again."
            raise SetupError(msg) from None
        if found != str(self.major):
            raise SetupError(
                f"{self.folder} was made by PostgreSQL {found}, {self.major} is asked for; "
                "set DATA_DIR to another folder."
            )

    def _initdb(self, folder: Path) -> None:
        with sockets.visible_folder(folder, self.user) as (place, kept):
            command = [
                str(program(self.installation, "initdb")), "-D", place, "-U", SUPERUSER,
                *self.authentication(), "--locale=C", "--encoding=UTF8", "--data-checksums",
                "--no-instructions",
                *(["--no-sync"] if self.options.get("fsync") == "off" else []),
            ]  # fmt: skip
            done = subprocess.run(  # noqa: S603 - our own words
                command, check=False, capture_output=True, text=True, pass_fds=kept,
                **child_options(self.user),
            )  # fmt: skip
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
            fault = (errors or done.stderr.splitlines() or ["no reason given"])[0].strip()
            raise SetupError(
                f"The database in DATA_DIR {self.data_dir} could not be made ({fault}); "
                "free or widen that disk, or set DATA_DIR to another folder."
            )

    def authentication(self) -> list[str]:
        """Return initdb's arguments for who may connect how."""
        return ["--auth=trust"]

    def start(self, abandon: Event) -> int:
        """Start the server and return its pid once it answers, or raise `SetupError`."""
        deadline = Deadline.after(READY_SECONDS)
        while True:
            pid = self.serving_pid()
            if pid is None:
                self._clear_away_the_dead()
                pid = self._spawn()
            if self.wait_ready(pid, deadline, abandon):
                return pid
            fault = self._last_fault()
            # A starter that was killed just now may have left a server that gets up before ours.
            again = "shared memory block" in fault or self.serving_pid() is not None
            if not again or deadline.passed or abandon.is_set():
                raise SetupError(
                    f"The embedded PostgreSQL did not start ({fault}); see {self.log}."
                )
            time.sleep(0.2)

    def wait_ready(self, pid: int, deadline: Deadline, abandon: Event) -> bool:
        """Return whether the server got ready; one that is given up is stopped."""
        while processes.is_running(pid):
            if processes.noted_ready(self.folder, pid):
                return True
            given_up = abandon.is_set() or deadline.passed
            if given_up and processes.is_postgres_in(pid, self.folder):
                self.stop(pid)
            time.sleep(POLL_SECONDS)
        processes.reap(pid)
        return False

    def stop(self, pid: int) -> None:
        """Stop the server and wait: fast first (clean), at once if that takes too long."""
        for kind in (signal.SIGINT, signal.SIGQUIT):  # what `pg_ctl stop` sends: fast, immediate
            deadline = Deadline.after(STOP_SECONDS)
            processes.signal_postgres(pid, self.folder, kind)
            while processes.is_postgres_in(pid, self.folder) and not deadline.passed:
                time.sleep(POLL_SECONDS)
            if not deadline.passed:
                processes.reap(pid)
                processes.end_sessions_in(self.folder)
                return sockets.remove_folder(self.socket_dir)
        raise SetupError(f"PostgreSQL (pid {pid}) does not stop; see {self.log} for the reason.")

    def forget(self, pid: int) -> None:
        """Clear a dead server of ours from the process table."""
        if not processes.is_running(pid):
            processes.reap(pid)

    def _clear_away_the_dead(self) -> None:
        """Make place for a start when no server of ours is running.

        PostgreSQL trusts a living pid in `postmaster.pid` whoever it is, so a reused one is written
        over; by the rest of the file PostgreSQL finds sessions that outlived their server.
        """
        processes.end_sessions_in(self.folder)  # sessions whose server was killed
        address = self.socket_dir / sockets.NAME
        deadline = Deadline.after(UNSEEN_SECONDS)
        while sockets.answers(address):
            if deadline.passed:
                raise SetupError(
                    "A PostgreSQL that this process cannot see (another container?) serves "
                    f"DATA_DIR {self.data_dir}; stop it or set DATA_DIR to another folder."
                )
            time.sleep(0.1)
        note = self.folder / "postmaster.pid"
        if note.exists():
            first, _, rest = note.read_text().partition("\n")
            if first.strip().isdigit():
                note.write_text(f"{NO_PROCESS}\n{rest}")
            else:  # cut off by a full disk; PostgreSQL would refuse to start
                note.unlink()
        sockets.make_folder(self.socket_dir, self.user)

    def all_options(self) -> dict[str, str]:
        """Return what the server is started with; where it listens is not for callers to say."""
        return {
            **OPTIONS, **self.options,
            "listen_addresses": "", "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700", "port": str(sockets.PORT),
        }  # fmt: skip

    def _spawn(self) -> int:
        """Start postgres and return its pid; it may outlive this process."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            with sockets.visible_folder(self.folder, self.user) as (place, kept):
                command = [str(program(self.installation, "postgres")), "-D", place]
                for name, value in self.all_options().items():
                    command += ["-c", f"{name}={value}"]
                started = subprocess.Popen(  # noqa: S603 - our own words
                    command, stdout=log, stderr=log, pass_fds=kept, **child_options(self.user)
                )
        finally:
            os.close(log)
        started.returncode = 0  # from here on the pid is ours to watch, and may be left running
        return started.pid

    def _last_fault(self) -> str:
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
        faults = [line for line in lines if re.search("FATAL|PANIC|error|not found", line)]
        return (faults or lines or ["no reason given"])[-1].split("FATAL:")[-1].strip()


def _flush(path: Path) -> None:
    """Have a change on disk before anything is built on it."""
    if WINDOWS:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
