"""The command line as a person has it: real processes, one line for each mistake."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

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


def run(folder: Path, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(folder, **values),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"DATA_DIR": "/proc/nowhere"}, "DATA_DIR /proc/nowhere cannot be used"),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}, "DATABASE_URL: cannot connect"),
        ({"DATABASE_URL": "nonsense"}, "DATABASE_URL: cannot connect"),
        ({"API_PORT": "many"}, "API_PORT: input should be a valid integer"),
        ({"ADMIN_API_KEY": "short"}, "ADMIN_API_KEY:"),
    ],
)
def test_a_wrong_setting_is_one_line_and_a_non_zero_exit(
    tmp_path: Path, values: dict[str, str], told: str
) -> None:
    done = run(tmp_path, "serve", **{"API_PORT": str(free_port()), **values})
    assert done.returncode != 0
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_taken_port_is_one_line_and_a_non_zero_exit(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(tmp_path, "serve", API_PORT=str(taken.getsockname()[1]))
    assert done.returncode != 0
    assert "API_PORT" in done.stderr
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_printed_command_answers_and_a_signal_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = str(free_port())
    log = tmp_path / "serve.log"
    with log.open("w") as out:
        service = subprocess.Popen(
            [*COMMAND, "serve"],
            env=environment(tmp_path / "data", API_PORT=port, ENVIRONMENT="development"),
            cwd=PROJECT_ROOT,
            stdout=out,
            stderr=out,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/ready", service)
            told = next(line for line in log.read_text().splitlines() if "curl" in line)
            answer = subprocess.run(
                ["bash", "-c", told.strip()], capture_output=True, text=True, timeout=30
            )
            assert '"outcome":"answered"' in answer.stdout, told
            keys = sorted(p.name for p in (tmp_path / "data" / "keys").iterdir())
            assert "acme_corp.key" in keys
        finally:
            service.send_signal(number)
            service.wait(30)
    assert service.returncode == 0
    assert _postgres_of(tmp_path) == []


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


def test_tenants_and_questions_from_the_command_line(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "fire.md").write_text("# Fire drills\n\nFire drills are held every six months.")
    data, quiet = tmp_path / "data", {"LOAD_EXAMPLES": "false"}
    assert run(data, "tenants", "create", "delta", **quiet).returncode == 0
    assert run(data, "ingest", str(folder), "--tenant", "delta", **quiet).returncode == 0
    asked = run(data, "ask", "How often are fire drills held?", "--tenant", "delta", **quiet)
    assert asked.returncode == 0
    assert "every six months" in asked.stdout
    unknown = run(data, "ask", "Who?", "--tenant", "nobody", **quiet)
    assert unknown.returncode == 1
    assert "compliance-copilot tenants create nobody" in unknown.stderr


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
