"""What keeps a serving process from making requests wait: its threads, cores, garbage collector.

Settings of the interpreter, in force while the process serves and taken back after it.
Must not enter: what the threads do.
"""

import asyncio
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from compliance_copilot.core import cores
from compliance_copilot.storage.filelock import FileLock

_TURN_SECONDS = 0.0005
_FULL_EVERY = 100
"""After so many collections of the middle generation comes a full one; Python's own is 10."""


@contextmanager
def paced() -> Iterator[None]:
    """Let the event loop take its turn soon beside a busy thread while the context lasts.

    The loop gives up the interpreter's lock at each wait for the network and gets it back only
    when the thread that holds it has had its turn: 5 ms by default, several times in a question.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def let_threads_roam() -> None:
    """Have the running loop's threads, those of its future too, work on all cores."""
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=cores.roam)
    asyncio.get_running_loop().set_default_executor(threads)


@contextmanager
def seated(folder: Path, workers: int) -> Iterator[int | None]:
    """Keep the event loop on a core of its own while the context lasts; give the core.

    Only when there are as many workers as cores. Moved about, a worker finds nothing of what it
    needs in the caches of a core; the database and whatever else works here takes the other one.
    """
    if workers < 2 or workers != len(cores.CORES):
        yield None
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks = [(core, FileLock(folder / f"core-{core}")) for core in sorted(cores.CORES)]
    try:
        free = next((core for core, lock in locks if lock.try_exclusive()), None)
        if free is None:  # somebody was started beside the workers
            yield None
            return
        with cores.kept_to(free):
            yield free
    finally:
        for _, lock in locks:
            lock.close()


@contextmanager
def unburdened() -> Iterator[None]:
    """Leave what is there now out of garbage collections while the context lasts.

    Modules and what the start has made stay until the end: 180,000 objects, and to look at all of
    them stops every request for 90 ms. Full collections are rare from then on: each stops every
    request, too, and the small ones find nearly all that there is. A process that has left
    something out before is left alone.
    """
    if gc.get_freeze_count():
        yield
        return
    young, middle, full = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, middle, _FULL_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(young, middle, full)
        gc.unfreeze()
