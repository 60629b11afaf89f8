"""Starts and stops the stand-in provider for tests and drills."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class RunningProvider:
    """A stand-in that runs: its addresses, its log, its faults."""

    port: int
    log: Path
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The address for Anthropic's SDK."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """The address for OpenAI's SDK."""
        return f"{self.url}/v1"

    def openai_settings(self) -> dict[str, Any]:
        """Settings of a service that calls this one as OpenAI."""
        return {"openai_api_key": SecretStr("sk-test"), "openai_base_url": self.openai_url}

    def anthropic_settings(self) -> dict[str, Any]:
        """Settings of a service that calls this one as Anthropic."""
        return {"anthropic_api_key": SecretStr("sk-ant-test"), "anthropic_base_url": self.url}

    def fault(self, mode: str, **options: object) -> None:
        """Let calls fail; `count=n` for the next n only. `normal` ends all faults."""
        body = json.dumps({"mode": mode, **options}).encode()
        request = urllib.request.Request(f"{self.url}/_control", data=body, method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            pass

    def calls(self) -> list[dict]:
        """Return every call so far, in order."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


@contextmanager
def running_provider(
    folder: Path, *, port: int = 0, module: str = "provider"
) -> Iterator[RunningProvider]:
    """Run a stand-in whose log lies in the folder; end it by its own pid."""
    log = folder / f"{module}-calls.jsonl"
    command = [
        sys.executable,
        "-m",
        f"tests.standins.{module}",
        "--port",
        str(port),
        "--log",
        str(log),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield RunningProvider(int(process.stdout.readline()), log, process)
    finally:
        process.terminate()
        process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()
