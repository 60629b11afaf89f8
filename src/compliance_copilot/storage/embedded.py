"""The embedded PostgreSQL: one server per DATA_DIR, shared by all processes that use it.

The first to come starts it, the last to leave stops it, whoever sees it die starts it again. Each
user holds a shared lock that the kernel takes back when the user is killed. Queries do not enter
here: this module hands out connection strings.
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from types import MappingProxyType
from urllib.parse import quote

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.threads import finished, to_the_end
from compliance_copilot.storage import installation
from compliance_copilot.storage.cluster import READY_SECONDS, SUPERUSER, Cluster
from compliance_copilot.storage.filelock import FileLock
from compliance_copilot.telemetry import metrics

WATCH_SECONDS = 0.25
RETRY_SECONDS = 2.0
START_WAIT_SECONDS = READY_SECONDS + 30
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server. `password` is None where the socket's folder is the protection."""

    data_dir: Path
    socket_dir: Path
    major: int
    host: str
    port: int
    password: str | None = field(default=None, repr=False)
    superuser: str = SUPERUSER

    def dsn(self, role: str, database: str) -> str:
        """Return the address for asyncpg; SQLAlchemy takes it as `postgresql+asyncpg://...`.

        Where there is a `password` (Windows) each role has to be created with it.
        """
        secret = f":{quote(self.password, safe='')}" if self.password else ""
        where = f"host={quote(self.host, safe='/')}&port={self.port}"
        return f"postgresql://{quote(role, safe='')}{secret}@/{quote(database, safe='')}?{where}"


@asynccontextmanager
async def open_embedded(
    data_dir: Path, *, major: int = 18, options: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[EmbeddedServer]:
    """Run the embedded PostgreSQL of `data_dir` while the context lasts.

    `options` are PostgreSQL settings that replace our durable ones (tests). Raises `SetupError`,
    one line for a person, when the server cannot be had.
    """
    seat = await to_the_end(lambda: _Seat.prepare(data_dir, major, options))
    watch: asyncio.Task[None] | None = None
    try:
        await to_the_end(seat.take, on_cancel=seat.abandon.set)
        watch = asyncio.create_task(_watch(seat), name="embedded-postgres")
        yield seat.server()
    finally:
        seat.abandon.set()
        await finished(asyncio.ensure_future(_leave(seat, watch)))


def make_data_dir(data_dir: Path) -> None:
    """Make the folder of everything this deployment keeps, closed to others. Raises SetupError."""
    # As root the server is another user, who has to pass through to its own folder.
    mode = 0o700 if installation.WINDOWS or os.geteuid() else 0o711
    with _one_line(data_dir):
        data_dir.mkdir(mode=mode, parents=True, exist_ok=True)


async def _leave(seat: "_Seat", watch: asyncio.Task[None] | None) -> None:
    if watch is not None:
        watch.cancel()
        await asyncio.wait({watch})
    await asyncio.to_thread(seat.leave)


async def _watch(seat: "_Seat") -> None:
    """Start the server again whenever it dies; of several processes one does it."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        try:
            if await asyncio.to_thread(seat.is_served):
                continue
            await to_the_end(seat.revive, on_cancel=seat.abandon.set)
        except (SetupError, OSError) as fault:
            LOG.error("embedded PostgreSQL is down: %s", fault)
            await asyncio.sleep(RETRY_SECONDS)


@dataclass(slots=True)
class _Seat:
    """One process's use of a cluster. Its methods block; they run in threads."""

    cluster: Cluster
    starting: FileLock
    using: FileLock
    abandon: Event = field(default_factory=Event)
    pid: int | None = None
    taken: bool = False

    @classmethod
    def prepare(cls, data_dir: Path, major: int, options: Mapping[str, str]) -> "_Seat":
        """Open DATA_DIR and its locks, or say in one line why not."""
        source = installation.packaged_installation(major)
        make_data_dir(data_dir)
        with _one_line(data_dir):
            place = data_dir.resolve()
            cluster = _cluster_kind().find(place, major, source, options)
            starting = FileLock(place / f"postgres-{major}.starting.lock")
            return cls(cluster, starting, FileLock(place / f"postgres-{major}.using.lock"))

    def take(self) -> None:
        """Make sure that the server runs, and note that this process uses it."""
        with self._start_lock(), _one_line(self.cluster.data_dir):
            self._ensure_running(alone=self.using.try_exclusive())
            self.taken = self.using.try_shared()

    def is_served(self) -> bool:
        """Tell whether a server runs, be it one that another process has started."""
        pid = self.cluster.serving_pid()
        if pid is not None and self.pid is not None and pid != self.pid:
            self.cluster.forget(self.pid)
            self.pid = pid
        return pid is not None

    def revive(self) -> None:
        """Start the server again, unless another process has done so by now."""
        with self._start_lock():
            if self.pid is not None:
                self.cluster.forget(self.pid)
            LOG.warning("embedded PostgreSQL has died; it is started again")
            metrics.RESTARTS.labels("died").inc()
            self._ensure_running(alone=False)

    def leave(self) -> None:
        """Stop the server when nobody else uses it, and let go of everything."""
        self.abandon = Event()
        try:
            if self.taken:
                with self._start_lock():
                    if self.using.try_exclusive():
                        self._stop_for_good()
        finally:
            self.using.close()
            self.starting.close()

    def server(self) -> EmbeddedServer:
        """Return what a user of the server has to know."""
        cluster = self.cluster
        host, port, password = cluster.address()
        return EmbeddedServer(
            cluster.data_dir, cluster.socket_dir, cluster.major, host, port, password
        )

    def _ensure_running(self, *, alone: bool) -> None:
        pid = self.cluster.serving_pid()
        if pid is not None:
            place = self.cluster.noted_socket_dir()  # of whoever started it
            unfit = self.cluster.has_lost_its_program(pid)
            if unfit or (alone and not self.cluster.has_our_options()):
                replace(self.cluster, socket_dir=place).stop(pid)
            else:
                self.cluster = replace(self.cluster, socket_dir=place)
                if self.cluster.wait_ready(pid, Deadline.after(READY_SECONDS), self.abandon):
                    self.pid = pid
                    return
        self.cluster.make_if_missing()
        self.pid = self.cluster.start(self.abandon)

    def _stop_for_good(self) -> None:
        # DATA_DIR may have been removed under us: then only our memory knows the pid.
        pid = self.cluster.serving_pid() or self.pid
        if pid is not None:
            self.cluster.stop(pid)

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        self.starting.wait_exclusive(Deadline.after(START_WAIT_SECONDS), self.abandon)
        try:
            yield
        finally:
            self.starting.release()


def _cluster_kind() -> type[Cluster]:
    if sys.platform == "win32":
        from compliance_copilot.storage.loopback import LoopbackCluster

        return LoopbackCluster
    return Cluster


@contextmanager
def _one_line(data_dir: Path) -> Iterator[None]:
    """Turn what the file system refuses into a line that names DATA_DIR and the fix."""
    try:
        yield
    except OSError as fault:
        raise SetupError(
            f"DATA_DIR {data_dir} cannot be used ({fault.strerror}: {fault.filename}); give it to "
            "the user who runs the service, or set DATA_DIR to a folder that user may write."
        ) from None
