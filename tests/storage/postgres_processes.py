"""What the tests of the embedded PostgreSQL see of processes, files and answers."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import asyncpg

from compliance_copilot.storage.embedded import EmbeddedServer
from compliance_copilot.storage.installation import packaged_installation

FAST = {"fsync": "off", "shared_buffers": "16MB", "max_connections": "20"}
USER_PROCESS = """
import asyncio, sys
from pathlib import Path
from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.embedded import open_embedded

async def main():
    options = dict(word.split("=") for word in sys.argv[2:])
    async with open_embedded(Path(sys.argv[1]), options=options) as server:
        print("ready", server.dsn("postgres", "postgres"), flush=True)
        await asyncio.to_thread(sys.stdin.readline)

try:
    asyncio.run(main())
except SetupError as fault:
    print(fault)
    sys.exit(2)
"""


class UserProcess:
    """Another process that uses the server of a DATA_DIR."""

    def __init__(self, data_dir: Path, *prefix: str, site: Path = Path("/nowhere")) -> None:
        words = [f"{name}={value}" for name, value in FAST.items()]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-W", "error", "-c", USER_PROCESS, str(data_dir), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PYTHONPATH": os.pathsep.join([str(site), *sys.path]), "LANG": "xx_XX.nowhere"},
        )  # fmt: skip

    def first_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> int:
        self.process.communicate("\n")
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def copy_the_wheel_to(site: Path) -> Path:
    """Make a second installation of the wheel's PostgreSQL 18."""
    source = packaged_installation(18)
    package = source.parent
    (site / package.name).mkdir(parents=True)
    (site / package.name / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copytree(source, site / package.name / source.name)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, site / libraries)
    return site


def postgres_pids(data_dir: Path) -> list[int]:
    """Every living postgres process, sessions included, that works in a cluster of `data_dir`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                place = os.readlink(entry / "cwd")
            except OSError:
                continue
            if place.startswith(str(data_dir)):
                found.append(int(entry.name))
    return found


def postmaster_pid(data_dir: Path, major: int = 18) -> int:
    note = data_dir / f"postgres-{major}" / "postmaster.pid"
    return int(note.read_text().split("\n")[0])


def open_files(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # of our own look into the folder
            found.add(os.readlink(link))
    return found


def network_sockets() -> set[str]:
    """The TCP sockets of this machine, named as `open_files` names them."""
    tables = [Path(f"/proc/net/{table}").read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def run_sql(server: EmbeddedServer | str, *statements: str) -> object:
    dsn = server if isinstance(server, str) else server.dsn("postgres", "postgres")
    connection = await asyncpg.connect(dsn)
    try:
        answer: object = None
        for statement in statements:
            answer = await connection.fetchval(statement)
        return answer
    finally:
        await connection.close()


async def run_sql_when_back(server: EmbeddedServer, statement: str) -> object:
    for _ in range(600):
        try:
            return await run_sql(server, statement)
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
    return await run_sql(server, statement)
