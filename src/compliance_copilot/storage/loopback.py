"""The cluster on Windows, where the server listens on 127.0.0.1 with SCRAM and a random password.

NOT RUN by this project's tests, which know no Windows. All that differs there is in this file.
"""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, ClassVar, Self

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage import processes
from compliance_copilot.storage.cluster import READY_SECONDS, STOP_SECONDS, SUPERUSER, Cluster
from compliance_copilot.storage.installation import child_options, program

HOST = "127.0.0.1"
POLL_SECONDS = 0.1


class LoopbackCluster(Cluster):
    """A cluster whose server is reached by TCP on this machine, with a password."""

    __slots__ = ()
    hba: ClassVar[str] = (
        f"host all all {HOST}/32 scram-sha-256\nhost replication all {HOST}/32 scram-sha-256\n"
    )

    @classmethod
    def find(
        cls, data_dir: Path, major: int, installation: Path, options: Mapping[str, str]
    ) -> Self:
        """Return the cluster of a DATA_DIR; here the service's own user runs it, in place."""
        return cls(data_dir, major, installation, None, data_dir, dict(options))

    def address(self) -> tuple[str, int, str | None]:
        """Return host, port and password for clients."""
        return HOST, self._port(), self._password_file().read_text()

    def serving_pid(self) -> int | None:
        """Return the noted pid when whoever listens knows our password and serves our folder."""
        pid = processes.noted_pid(self.folder)
        return (
            pid if pid is not None and self._ask("show data_directory") == self._shown() else None
        )

    def noted_socket_dir(self) -> Path:
        """Return the folder that stands in for a socket's."""
        return self.data_dir

    def has_lost_its_program(self, pid: int) -> bool:
        """Return False: Windows does not remove a program that runs."""
        del pid
        return False

    def start(self, abandon: Event) -> int:
        """Start the server through pg_ctl, which sheds an administrator's rights."""
        self._draw_port()
        settings = " ".join(f"-c {name}={value}" for name, value in self.all_options().items())
        done = self._pg_ctl("start", "-W", "-l", str(self.log), "-o", settings)
        deadline = Deadline.after(READY_SECONDS)
        while done == 0 and not (deadline.passed or abandon.is_set()):
            pid = self.serving_pid()
            if pid is not None:
                return pid
            time.sleep(POLL_SECONDS)
        raise SetupError(f"The embedded PostgreSQL did not start; see {self.log} for the reason.")

    def wait_ready(self, pid: int, deadline: Deadline, abandon: Event) -> bool:
        """Return True: a server counts as serving here only once it has answered."""
        del deadline, abandon
        return self.serving_pid() == pid

    def stop(self, pid: int) -> None:
        """Stop the server through pg_ctl; there are no signals to send."""
        if self._pg_ctl("stop", "-m", "fast", "-w", "-t", str(STOP_SECONDS)):
            raise SetupError(f"PostgreSQL (pid {pid}) does not stop; see {self.log}.")

    def forget(self, pid: int) -> None:
        """Do nothing: there is no process table to clean."""

    def all_options(self) -> dict[str, str]:
        """Return what the server is started with: loopback only."""
        shared = super().all_options()
        for name in ("unix_socket_directories", "unix_socket_permissions"):
            del shared[name]
        return shared | {"listen_addresses": HOST, "port": str(self._port())}

    def authentication(self) -> list[str]:
        """Return initdb's arguments: SCRAM, with a password made now and kept with mode 0600."""
        descriptor = os.open(self._password_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
        return ["--auth=scram-sha-256", f"--pwfile={self._password_file()}"]

    def _password_file(self) -> Path:
        return self.data_dir / "postgres.password"

    def _port_file(self) -> Path:
        return self.data_dir / "postgres.port"

    def _port(self) -> int:
        return int(self._port_file().read_text())

    def _draw_port(self) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self._port_file().write_text(str(probe.getsockname()[1]))

    def _shown(self) -> str:
        return self.folder.as_posix()

    def _pg_ctl(self, *words: str) -> int:
        command = [str(program(self.installation, "pg_ctl")), "-D", str(self.folder), *words]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(command, check=False, **quiet, **child_options(None)).returncode  # noqa: S603 - our own words

    def _ask(self, question: str) -> str | None:
        try:
            dsn = f"host={HOST} port={self._port()} user={SUPERUSER} dbname=postgres"
        except (OSError, ValueError):
            return None
        command = [str(program(self.installation, "psql")), "-wXAtc", question, dsn]
        # libpq reads its password from a file in its own format, so none is on the command line.
        passfile = self.data_dir / "postgres.pgpass"
        descriptor = os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{HOST}:*:*:*:{self._password_file().read_text()}\n")
        command[-1] += f" passfile='{passfile.as_posix()}' connect_timeout=5"
        done = subprocess.run(  # noqa: S603 - our own words
            command, check=False, capture_output=True, text=True, **child_options(None)
        )
        return done.stdout.strip() if done.returncode == 0 else None
