"""The real command line on a DATA_DIR of its own: as a process, or its `main` in this one."""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from compliance_copilot.cli import main
from compliance_copilot.settings import VARIABLES
from compliance_copilot.storage.embedded import open_embedded
from tests.places import quick_place

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "configs" / "example.json"
ADMIN_KEY = "an-admin-key-for-tests-of-40-characters!"
LONGEST_SECONDS = 60


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line of a command that failed: no traceback, nothing on stdout."""
        assert self.status == 1
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert self.out == ""
        return lines[0]


@dataclass(frozen=True)
class CommandLine:
    """Runs `compliance-copilot` with these settings and no others."""

    data_dir: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        # An empty variable hides one of the developer's own environment or `.env`.
        nothing = dict.fromkeys(VARIABLES, "")
        ours = {"DATA_DIR": str(self.data_dir), "ADMIN_API_KEY": ADMIN_KEY}
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        return {**os.environ, **nothing, **ours, **self.settings, "PYTHONPATH": path}

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "compliance_copilot.cli", *map(str, arguments)]

    def __call__(self, *arguments: object, **settings: str) -> Done:
        """Run `main` here: the same code and the same database, without a second of imports."""
        out, err, status = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in {**self.environment, **settings}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["compliance-copilot", *map(str, arguments)])
            patch.setattr(sys, "stdin", io.StringIO())
            try:
                main()
            except SystemExit as left:
                status = int(left.code or 0)
        return Done(status, out.getvalue(), err.getvalue())

    def process(self, *arguments: object, **settings: str) -> Done:
        """Run the command as a person does."""
        process = subprocess.run(
            self.command(*arguments),
            env={**self.environment, **settings},
            cwd=self.data_dir.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        return Done(process.returncode, process.stdout, process.stderr)

    def having(self, **settings: str) -> "CommandLine":
        return replace(self, settings={**self.settings, **settings})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cli() -> AsyncIterator[CommandLine]:
    """A migrated deployment without tenants; its server is held, so that commands are quick."""
    with tempfile.TemporaryDirectory(prefix="cc-test-", dir=quick_place()) as folder:
        data_dir = Path(folder) / "data"
        line = CommandLine(data_dir, {"LOAD_EXAMPLES": "false", "API_PORT": str(free_port())})
        async with open_embedded(data_dir):
            assert line.process("migrate").status == 0
            yield line


@pytest.fixture
def new_cli() -> Iterator[CommandLine]:
    """A machine on which nothing was started yet."""
    with tempfile.TemporaryDirectory(prefix="cc-test-", dir=quick_place()) as folder:
        yield CommandLine(Path(folder) / "data", {"API_PORT": str(free_port())})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Hold a port as some other program would."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        yield
