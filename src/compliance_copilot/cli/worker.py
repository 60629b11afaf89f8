"""worker: reads and stores what `POST /ingest/files` took in, without serving."""

import asyncio
import signal
from typing import TYPE_CHECKING

import typer

from compliance_copilot.core.errors import SetupError

if TYPE_CHECKING:
    from compliance_copilot.settings import Settings

_HELP = """Work off the queue of files in a process of its own; Ctrl-C or SIGTERM stops it cleanly.

A serving process does so by itself unless INGEST_WORKERS=0. Start as many as are needed, on any
host that reaches the database.

Example: INGEST_WORKERS=4 compliance-copilot worker
"""


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(worker)


def worker() -> None:
    """Take jobs until a signal comes."""
    from compliance_copilot.settings import load_settings

    settings = load_settings()
    if not settings.ingest_workers:
        raise SetupError("INGEST_WORKERS: a worker needs at least 1 process that reads files.")
    asyncio.run(_work(settings))


async def _work(settings: "Settings") -> None:
    from compliance_copilot.wiring import open_service, working

    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopping.set))
    loop = asyncio.get_running_loop()
    async with open_service(settings) as service, working(service, settings):
        typer.echo("Working off the queue; Ctrl-C stops it.", err=True)
        await stopping.wait()
