"""Two services beside one another on one DATA_DIR."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from compliance_copilot.settings import PROJECT_ROOT

COMMAND = [sys.executable, "-m", "compliance_copilot.cli"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(folder: Path, **values: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{PROJECT_ROOT / 'src'}:{PROJECT_ROOT}",
        "DATA_DIR": str(folder),
        **values,
    }


def test_two_services_share_one_folder_and_the_last_one_stops_the_server(tmp_path: Path) -> None:
    services = []
    try:
        for _ in range(2):
            port = str(free_port())
            services.append(
                subprocess.Popen(
                    [*COMMAND, "serve"],
                    env=environment(tmp_path, API_PORT=port, LOAD_EXAMPLES="false"),
                    cwd=PROJECT_ROOT,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            _wait_for(f"http://127.0.0.1:{port}/ready", services[-1])
        services[0].terminate()
        services[0].wait(30)
        assert httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
        assert len(_postgres_of(tmp_path)) == 1
    finally:
        for service in services:
            service.terminate()
            service.wait(30)
    assert _postgres_of(tmp_path) == []


def _wait_for(url: str, service: subprocess.Popen) -> None:
    for _ in range(600):
        assert service.poll() is None, "the service ended"
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the service did not come up")


def _postgres_of(folder: Path) -> list[str]:
    """Return the postmasters at work in a folder: each stands in its cluster's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            stands_in = os.readlink(process / "cwd")
        except OSError:
            continue
        if words[0].endswith(b"bin/postgres") and stands_in.startswith(str(folder)):
            found.append(process.name)
    return found
