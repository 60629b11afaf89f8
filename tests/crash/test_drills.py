"""The drills of `benchmarks/` in their short form: real processes, really killed."""

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack

import pytest

from compliance_copilot.settings import PROJECT_ROOT
from tests.places import quick_place

# The others of `benchmarks/` are run by hand: together they would take longer than all other tests.
DRILLS = {
    "readers who leave are billed what the provider counted": (
        "disconnect_drill --disconnects 20 --seed 1"
    ),
    "repeats of a key are charged once": "idempotency_drill --keys 6 --repeats 8 --seed 1",
    "a killed database loses and doubles nothing": (
        "crash_drill --kill database --kills 1 --queries 60 --seed 1"
    ),
    "a database that is away and comes back loses and doubles nothing": (
        "crash_drill --kill outage --down-seconds 2 --queries 60 --seed 1"
    ),
    "over several processes as many get in as the limit allows": (
        "rate_limit_drill --requests 80 --workers 2 --limit 20 --seed 1"
    ),
    "a budget holds against many at once": "budget_drill --requests 30 --carried 5 --seed 1",
    "a service that is asked to leave finishes what it has": "shutdown_drill --times 1 --seed 1",
    "an erasure that is killed is finished": "erasure_drill --kills 2 --seed 1",
}

# Most of their time they wait for leases to end, so they wait together.
WAITING = {
    "a killed service loses and doubles nothing": (
        "crash_drill --kill service --kills 1 --queries 60 --seed 1"
    ),
    "a database that falls silent holds no request beyond its deadline": (
        "blackhole_drill --only database --when meanwhile --requests 12 --timeout 2 --seed 1"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("drill", DRILLS.values(), ids=DRILLS.keys())
def test_drill(drill: str) -> None:
    all_hold([drill])


@pytest.mark.slow
def test_drills_that_wait() -> None:
    all_hold(WAITING.values())


def all_hold(drills: Iterable[str]) -> None:
    """Run drills at once; one that is left behind ends its servers on SIGTERM."""
    with ExitStack() as stack:
        begun = [stack.enter_context(begin(drill)) for drill in drills]
        for drill in begun:
            stack.callback(drill.terminate)
        for drill in begun:
            told, _ = drill.communicate(timeout=400)
            assert drill.returncode == 0, told
            assert "all hold" in told


def begin(drill: str) -> subprocess.Popen[str]:
    name, *arguments = drill.split()
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "TMPDIR": quick_place()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
