"""One set of numbers for all workers of a port: values in mapped files of one folder.

prometheus_client keeps the files and adds them up; here is when they begin and end. Without a
folder (library, command line) the values live in the process. Must not enter: which metrics exist.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = CONTENT_TYPE_LATEST
REGISTRY = CollectorRegistry(auto_describe=False)
"""Every metric of the service, as this process has it."""

_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # how prometheus_client is told
_TENANTS = "tenants"
OTHER = "other"
"""The label of all tenants beyond the bound."""


class _State:
    """Where this process writes, and which tenants have series of their own."""

    folder: Path | None = None
    most_tenants = 100
    tenants: dict[str, str] = {}  # noqa: RUF012 - the state is the point
    pid = os.getpid()

    @classmethod
    def process_id(cls) -> int:
        """Return which process this is; the system is asked after a fork, not at each count."""
        return cls.pid

    @classmethod
    def forked(cls) -> None:
        """Be another process."""
        cls.pid = os.getpid()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_State.forked)


def prepare(folder: Path, *, alone: bool) -> None:
    """Make the folder. `alone`: what lies there is of a service that is gone, and goes too."""
    tenants = folder / _TENANTS
    tenants.mkdir(mode=0o700, parents=True, exist_ok=True)
    if alone:
        for path in [*folder.glob("*.db"), *tenants.iterdir()]:
            path.unlink(missing_ok=True)


@contextmanager
def shared(folder: Path, *, most_tenants: int) -> Iterator[None]:
    """Keep this process's values in a prepared folder while the context lasts.

    A second service in one process joins the first.
    """
    if _State.folder is not None:
        yield
        return
    _State.most_tenants = most_tenants
    previous = values.ValueClass
    values.ValueClass = values.MultiProcessValue(_State.process_id)  # type: ignore[no-untyped-call]
    _begin_anew(folder)
    try:
        yield
    finally:
        _mark_dead(os.getpid(), folder)  # what only a living process has
        values.ValueClass.close_all_files()
        values.ValueClass = previous
        _begin_anew(None)


def _begin_anew(folder: Path | None) -> None:
    """Let values be made again, where they live from now on."""
    _State.folder, _State.tenants = folder, {}
    os.environ.pop(_FOLDER_VARIABLE, None)  # while it is set, nothing can be cleared
    for metric in tuple(REGISTRY._collector_to_names):
        if isinstance(metric, MetricWrapperBase):
            metric.clear()
    if folder is not None:
        os.environ[_FOLDER_VARIABLE] = str(folder)


def exposition() -> bytes:
    """Return all metrics of all workers in Prometheus' text format."""
    if _State.folder is None:
        return generate_latest(REGISTRY)
    _forget_dead(_State.folder)
    merged = CollectorRegistry()
    MultiProcessCollector(merged, str(_State.folder))  # type: ignore[no-untyped-call]
    return generate_latest(merged)


def _forget_dead(folder: Path) -> None:
    """Take out what processes that are gone had at their end: pools, breakers, journals.

    Their counters stay: what was counted has happened.
    """
    for path in folder.glob("gauge_live*_*.db"):
        number = path.stem.rpartition("_")[2]
        if not _lives(int(number)):
            _mark_dead(int(number), folder)


def _mark_dead(pid: int, folder: Path) -> None:
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # there, 0 is a signal that ends the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True


def tenant_label(tenant_id: str) -> str:
    """Return the tenant's own label, or `other` once as many as allowed have theirs.

    The first tenants at work get them, the same on all workers, until the service ends.
    """
    label = _State.tenants.get(tenant_id)
    if label is None:
        label = _State.tenants[tenant_id] = _claimed(tenant_id)
    return label


def _claimed(tenant_id: str) -> str:
    if _State.folder is None:
        own = sum(label != OTHER for label in _State.tenants.values())
        return tenant_id if own < _State.most_tenants else OTHER
    mine = _State.folder / _TENANTS / tenant_id  # an id is a file's name as it stands
    if not mine.exists():
        if sum(1 for _ in mine.parent.iterdir()) >= _State.most_tenants:
            return OTHER
        mine.touch()
    return tenant_id
