"""The drills of `benchmarks/` in their short form: real processes, really killed."""

import subprocess
import sys

import pytest

from compliance_copilot.settings import PROJECT_ROOT

DRILLS = {
    "a limit holds over several worker processes": (
        "rate_limit_drill --requests 120 --workers 2 --limit 15"
    ),
    "repeats of a key are charged once": "idempotency_drill --keys 6 --repeats 8 --seed 1",
    "a budget is never overdrawn": "budget_drill --requests 40 --carried 5",
    "a killed service loses and doubles nothing": (
        "crash_drill --kill service --kills 1 --queries 60 --seed 1"
    ),
    "a killed database loses and doubles nothing": (
        "crash_drill --kill database --kills 1 --queries 60 --seed 1"
    ),
    "a stop fails nobody": "shutdown_drill --times 1 --seed 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("drill", DRILLS.values(), ids=DRILLS.keys())
def test_drill(drill: str) -> None:
    name, *arguments = drill.split()
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all hold" in done.stdout
