"""Every command and snippet of README and docs is run against one real service.

The rule: a fenced block in `bash` or `python` is run. The bash blocks of a page are one shell, in
order; a python block is a process at its place between them. A block is left out only when the
line above it says why: `<!-- not run: REASON -->`. The service's address and the folder `/srv` are
the only things that are replaced.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from compliance_copilot.settings import VARIABLES
from tests.cli.conftest import ADMIN_KEY, LONGEST_SECONDS, ROOT, free_port
from tests.places import quick_place

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<left>not run: [^\n]+) -->\n)?(?P<indent> *)```(?P<kind>bash|python)\n"
    r"(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
MOST_LEFT_OUT = 6
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the snippets are bash")


@dataclass(frozen=True)
class Block:
    kind: str
    code: str
    left_out: str | None


def blocks(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text("utf-8"))
    return [Block(b["kind"], b["code"], b["left"]) for b in found]


RUN = [page for page in PAGES if any(b.left_out is None for b in blocks(page))]


@dataclass(frozen=True)
class Running:
    """A service and a folder in which its commands are typed."""

    port: int
    folder: Path
    environment: dict[str, str]

    def typed(self, page: Path) -> str:
        """Return the page's blocks as one script."""
        lines = ["set -euo pipefail"]
        for number, block in enumerate(blocks(page)):
            if block.left_out is not None:
                continue
            code = block.code.replace(":8000", f":{self.port}").replace("/srv", str(self.folder))
            if block.kind == "python":
                name = f"{page.stem}-{number}.py"
                (self.folder / name).write_text(code, "utf-8")
                code = f"{sys.executable} {name}\n"
            lines.append(code)
        return "\n".join(lines)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cc-test-", dir=quick_place()) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    port = free_port()
    (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n", "utf-8")
    environment = {
        **os.environ,
        **dict.fromkeys(VARIABLES, ""),
        "DATA_DIR": str(folder / ".data"),
        "ADMIN_API_KEY": ADMIN_KEY,
        "API_PORT": str(port),
        "CURL_HOME": str(folder),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
    }
    command = [sys.executable, "-m", "compliance_copilot.cli", "serve"]
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for(port, process)
            environment["KEY"] = (folder / ".data/keys/acme_corp.key").read_text().strip()
            yield Running(port, folder, environment)
        finally:
            process.terminate()
            process.wait(LONGEST_SECONDS)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health", timeout=LONGEST_SECONDS)
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service ended")


@needs_bash
@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_tells_to_type_works(page: Path, running: Running) -> None:
    done = subprocess.run(
        ["bash", "-c", running.typed(page)],
        env=running.environment,
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_what_is_left_out_is_little_and_says_why() -> None:
    left = [b.left_out for page in PAGES for b in blocks(page) if b.left_out]
    assert len(left) <= MOST_LEFT_OUT, left
    assert {page.name for page in RUN} >= {"README.md", "recipes.md", "operations.md"}


@needs_bash
def test_a_command_that_a_service_refuses_fails_its_page(running: Running, tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text("```bash\ncurl http://127.0.0.1:8000/usage -H 'X-API-Key: no'\n```\n", "utf-8")
    done = subprocess.run(
        ["bash", "-c", running.typed(page)],
        env=running.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
