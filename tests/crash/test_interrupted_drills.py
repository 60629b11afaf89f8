"""A drill that is interrupted ends the servers that it started, also one that is just starting."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from compliance_copilot.settings import PROJECT_ROOT

# A shell that runs the suite in the background leaves SIGINT ignored, and children inherit that.
DRILL = """
import asyncio
import signal
from benchmarks.harness import open_base, open_service

async def main():
    async with open_base() as base:
        print(base.pid, flush=True)
        async with open_service(base) as service:
            print(service.process.pid, flush=True)
            await asyncio.sleep(600)

signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(main())
"""


def drill(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRILL],
        cwd=PROJECT_ROOT,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def starting(drill: psutil.Process) -> psutil.Process:
    """Wait for the service's process, and not for the service."""
    while True:
        for child in drill.children():
            if "serve" in child.cmdline():
                return child


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["serves", "starts"])
def test_an_interrupted_drill_leaves_no_server(moment: str, tmp_path: Path) -> None:
    with drill(tmp_path) as process:
        assert process.stdout is not None
        servers = [psutil.Process(int(process.stdout.readline()))]
        if moment == "serves":
            servers.append(psutil.Process(int(process.stdout.readline())))
            process.send_signal(signal.SIGTERM)
        else:
            servers.append(starting(psutil.Process(process.pid)))
            process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()
    assert [server for server in servers if server.is_running()] == []
    assert list(tmp_path.glob("cc-drill-*")) == []
