"""serve, migrate, bootstrap, doctor: running a deployment."""

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from compliance_copilot.core.errors import SetupError
from compliance_copilot.settings import PROJECT_ROOT, Settings, load_settings

_START_SECONDS = 300.0


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(help="Run the service. Ctrl-C or SIGTERM stops it cleanly.")(serve)
    app.command(help="Bring the database schema up to date.")(migrate)
    app.command(help="Create or update the tenants of a file; safe to repeat.")(bootstrap)


def serve(
    reload: Annotated[bool, typer.Option(help="Start anew when the code changes.")] = False,
) -> None:
    """Prepare once (server, schema, examples), then run the workers on it."""
    import uvicorn

    settings = load_settings()
    # uvicorn raises the signal again when it has shut down: then the server below it is stopped.
    signal.signal(signal.SIGTERM, _leave)
    _refuse_taken_port(settings)
    with _prepared(settings):
        _banner(settings)
        uvicorn.run(
            "app:app",
            app_dir=str(PROJECT_ROOT),
            host=settings.api_host,
            port=settings.api_port,
            workers=settings.workers if not reload else None,
            reload=reload,
            log_level=settings.log_level.lower(),
            access_log=settings.environment == "development",
        )


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


def migrate() -> None:
    """Open the database as its owner, apply what is missing, close."""
    with _prepared(load_settings()):
        typer.echo("The schema is up to date.")


def bootstrap(
    file: Annotated[Path, typer.Argument(help="e.g. configs/example.json")],
    keys_dir: Annotated[
        Path | None, typer.Option(help="Write first keys there (0600), not to the terminal.")
    ] = None,
) -> None:
    """Create or update the tenants of a file and tell which were new."""
    from compliance_copilot.bootstrap import apply_tenants, load_tenants, write_key
    from compliance_copilot.cli.output import with_service

    tenants = load_tenants(file)
    for tenant_id, secret in with_service(lambda s: apply_tenants(s, tenants)).items():
        if secret is None:
            typer.echo(f"{tenant_id}: updated")
        elif keys_dir is not None:
            typer.echo(f"{tenant_id}: created, key in {write_key(keys_dir, tenant_id, secret)}")
        else:
            typer.echo(f"{tenant_id}: created, key (shown once): {secret}")


@contextmanager
def _prepared(settings: Settings) -> Iterator[None]:
    """Hold the prepared service in a thread of its own while the block runs.

    So the embedded server outlives every worker, and what fails to start is told here, once.
    """
    from compliance_copilot.wiring import open_service

    ready, stop = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    async def hold() -> None:
        async with open_service(settings):
            ready.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(hold())
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits for it
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="prepared")
    thread.start()
    try:
        ready.wait(_START_SECONDS)
        if failures:
            raise failures[0]
        yield
    finally:
        stop.set()
        thread.join()


def _refuse_taken_port(settings: Settings) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError as error:
            raise SetupError(
                f"API_PORT: {settings.api_host}:{settings.api_port} cannot be used"
                f" ({error.strerror}); stop what listens there or set API_PORT."
            ) from error


def _banner(settings: Settings) -> None:
    host = "127.0.0.1" if settings.api_host in {"0.0.0.0", "::"} else settings.api_host  # noqa: S104
    url = f"http://{host}:{settings.api_port}"
    lines = [f"Compliance Copilot serves {url} (try {url}/docs)"]
    keys = sorted((settings.data_dir / "keys").glob("*.key"))
    if keys:
        lines += [
            f"Keys of the example tenants: {keys[0].parent}/<tenant_id>.key",
            "Ask a first question:",
            f"  curl -s {url}/query -H \"Authorization: Bearer $(cat '{keys[0]}')\""
            " -H 'Content-Type: application/json'"
            ' -d \'{"query": "What are our data encryption requirements?"}\'',
        ]
    sys.stderr.write("\n".join(lines) + "\n")
