"""On which cores threads run: one that serves may keep to a core, all others roam.

A thread gives its cores to the threads and processes that it starts, so whoever keeps to one lets
them go. Where the system cannot do it (macOS, Windows) nothing happens.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_CAN = hasattr(os, "sched_setaffinity")
CORES = frozenset(os.sched_getaffinity(0)) if _CAN else frozenset[int]()
"""What this process may use, as it found it."""


@contextmanager
def kept_to(core: int) -> Iterator[None]:
    """Keep this thread on one core while the context lasts."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        roam()


def roam() -> None:
    """Let this thread run on all cores of the process."""
    if _CAN:
        os.sched_setaffinity(0, CORES)


@contextmanager
def roaming() -> Iterator[None]:
    """Let what is started meanwhile run on all cores of the process."""
    before = os.sched_getaffinity(0) if _CAN else CORES
    roam()
    try:
        yield
    finally:
        if _CAN:
            os.sched_setaffinity(0, before)
