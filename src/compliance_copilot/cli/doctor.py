"""doctor: looks at a deployment, and says for each failing line what to do."""

import asyncio
import shutil
import socket
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from compliance_copilot.cli.findings import Finding, failed, passed, warned
from compliance_copilot.cli.output import Json, console, show_json
from compliance_copilot.cli.serve import base_url
from compliance_copilot.core.errors import SetupError

if TYPE_CHECKING:
    from compliance_copilot.settings import Settings

_OLDEST_PYTHON = (3, 11)
_LEAST_FREE_BYTES = 200 * 2**20
_LITTLE_FREE_BYTES = 2 * 2**30
_PROBE_BYTES = 2**20
_HELP = """Check Python, disk, keys, database, providers, prices and port; say what to do.

Ends with 1 when a check fails. Keys are never shown; a provider is asked for its list of models,
which costs nothing. Nothing is changed, except that the embedded server is started for the look
when it does not run.

Examples: compliance-copilot doctor · compliance-copilot doctor --json
"""
_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(doctor)


def doctor(as_json: Json = False) -> None:
    """Look at everything and print a line each."""
    findings = list(_look())
    broken = any(finding.status == "failed" for finding in findings)
    if as_json:
        show_json({"healthy": not broken, "checks": findings})
    else:
        for finding in findings:
            _print(finding)
    if broken:
        raise typer.Exit(1)


def _print(finding: Finding) -> None:
    mark = f"{finding.status:<8}"
    console.print(mark, style=_STYLES[finding.status], end="")
    console.print(f"{finding.name}: {finding.detail}", markup=False, highlight=False)
    if finding.fix:
        console.print(f"        -> {finding.fix}", markup=False, highlight=False)


def _look() -> Iterator[Finding]:
    from compliance_copilot.settings import load_settings

    yield _python()
    try:
        settings = load_settings()
    except SetupError as error:
        yield failed("settings", error.detail, "Correct it as the line says.")
        return
    yield _settings(settings)
    yield _disk(settings)
    yield _data_dir(settings)
    yield _signing_key(settings)
    from compliance_copilot.cli.database_findings import look_at_database
    from compliance_copilot.cli.provider_findings import look_at_prices, look_at_providers

    yield from asyncio.run(look_at_database(settings))
    yield from look_at_providers(settings)
    yield from look_at_prices(settings)
    yield _port(settings)


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < _OLDEST_PYTHON:
        return failed("python", found, "Install Python 3.11 or newer and make .venv anew.")
    return passed("python", found)


def _settings(settings: "Settings") -> Finding:
    names = ", ".join(settings.unset_placeholders)
    if names:
        detail = f"placeholders count as unset: {names}"
        return warned("settings", detail, "Put real values there, or remove the lines.")
    return passed("settings", f"ENVIRONMENT={settings.environment}")


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _disk(settings: "Settings") -> Finding:
    place = _existing(settings.data_dir)
    free = shutil.disk_usage(place).free
    detail = f"{free / 2**30:.1f} GiB free at {place}"
    fix = "Make room there, or set DATA_DIR to a larger disk."
    if free < _LEAST_FREE_BYTES:
        return failed("disk", detail, fix)
    return warned("disk", detail, fix) if free < _LITTLE_FREE_BYTES else passed("disk", detail)


def _data_dir(settings: "Settings") -> Finding:
    place = _existing(settings.data_dir)
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            return passed("DATA_DIR", f"{settings.data_dir} can be written")
    except OSError as error:
        detail = f"{settings.data_dir} cannot be written ({error.strerror})"
        fix = "Give it to this user and make room, or set DATA_DIR to another one."
        return failed("DATA_DIR", detail, fix)


def _signing_key(settings: "Settings") -> Finding:
    """Look at the key of the audit log without making one."""
    from compliance_copilot.storage.signing import KEY_FILE
    from compliance_copilot.wiring import open_checkpoints

    file = settings.data_dir / "audit" / KEY_FILE
    if settings.audit_signing_key is None and not file.exists():
        return passed("audit", f"the first start makes a signing key in {file}")
    try:
        signer = open_checkpoints(settings).signer
    except SetupError as error:
        return failed("audit", error.detail, "Bring the key back from where it is kept.")
    return passed("audit", f"signs with the key {signer.key_id}")


def _port(settings: "Settings") -> Finding:
    where = f"{settings.api_host}:{settings.api_port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.api_host, settings.api_port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return passed("port", f"{where} is free")
    except OSError as error:
        if _is_ours(settings):
            return passed("port", f"{where}: this service answers there")
        fix = "Stop what listens there, or set API_HOST and API_PORT."
        return failed("port", f"{where} cannot be used ({error.strerror or error})", fix)


def _is_ours(settings: "Settings") -> bool:
    try:
        with urllib.request.urlopen(f"{base_url(settings)}/health", timeout=2) as reply:  # noqa: S310
            return b'"services"' in reply.read(4096)
    except (OSError, ValueError):
        return False
