"""schemathesis against the real service over HTTP: three identities, no 5xx, no schema break."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[1]
ADMIN_KEY = "an-admin-key-for-fuzzing-of-40-characters"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


@dataclass(frozen=True)
class Running:
    url: str
    keys: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("fuzzed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": "/usr/bin:/bin",
        "DATA_DIR": str(folder),
        "ADMIN_API_KEY": ADMIN_KEY,
        "ENVIRONMENT": "development",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    log = (folder / "uvicorn.log").open("w")
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield Running(url, folder / "keys")
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "the service ended"
        try:
            httpx.get(f"{url}/health")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service did not come up")


@pytest.mark.parametrize("identity", ["nobody", "tenant", "platform"])
def test_no_generated_request_breaks_the_contract(running: Running, identity: str) -> None:
    tenant_key = (running.keys / "acme_corp.key").read_text().strip()
    headers = {
        "nobody": [],
        "tenant": ["--header", f"Authorization: Bearer {tenant_key}"],
        "platform": ["--header", f"X-API-Key: {ADMIN_KEY}"],
    }[identity]
    schemathesis = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            str(schemathesis),
            "run",
            f"{running.url}/openapi.json",
            "--max-examples=20",
            "--seed=1",
            f"--checks={CHECKS}",
            "--no-color",
            *headers,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=running.keys,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert httpx.get(f"{running.url}/health").status_code == 200
