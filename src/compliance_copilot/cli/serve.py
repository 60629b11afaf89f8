"""serve: the service on its port, with one line for whatever keeps it from starting."""

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import AsyncExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance_copilot.core.errors import SetupError
from compliance_copilot.telemetry import logs

if TYPE_CHECKING:
    import uvicorn

    from compliance_copilot.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
LOG = logging.getLogger(__name__)
_APPLICATION = "app:app"
_START_SECONDS = 300.0
_DRAIN_SECONDS = 20
_KEEP_ALIVE_SECONDS = 620
"""Longer than balancers keep an idle connection (AWS 60 s, Google 600 s): whoever closes first must
be the one who sends, or a request meets a connection that is just being closed."""
_STARTUP_FAILURE = 3  # uvicorn's status for a worker that could not start
_HELP = """Run the service; Ctrl-C or SIGTERM stops it cleanly.

Where it listens, where its data lie and how many workers it has are settings: API_HOST, API_PORT,
DATA_DIR, WORKERS (see the README).

Examples: compliance-copilot serve · API_PORT=8080 WORKERS=2 compliance-copilot serve
"""


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(serve)


def serve(
    reload: Annotated[bool, typer.Option(help="Start anew when the code changes.")] = False,
) -> None:
    """Take the port, then serve on it until a signal comes."""
    from compliance_copilot.settings import load_settings

    settings = load_settings()
    if settings.environment == "production":  # from the first line on what a collector can read
        logs.configure(settings.log_level, readable=False)
    _leave_on_signals()
    with _listening(settings) as listener:
        try:
            if reload or settings.workers > 1:
                _serve_supervised(settings, listener, reload=reload)
            else:
                _serve_alone(settings, listener)
        except KeyboardInterrupt:
            sys.exit(0)


def _leave_on_signals() -> None:
    # uvicorn raises a signal again when it has shut down: then the command ends well.
    signal.signal(signal.SIGTERM, _leave)
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) == signal.SIG_DFL:
        # A closed terminal must stop the embedded server too; `nohup` has set SIG_IGN by now.
        signal.signal(hang_up, lambda *_: signal.raise_signal(signal.SIGTERM))


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(0)


@contextmanager
def _listening(settings: "Settings") -> Iterator[socket.socket]:
    """Take the port at once: who asks while the service starts is answered when it is up."""
    host, port = settings.api_host, settings.api_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SetupError(f"API_HOST: {host!r} is no address of this machine ({error}).") from error
    with listener:
        if sys.platform != "win32":  # there it would let two services share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            raise SetupError(
                f"API_PORT: {host}:{port} cannot be used ({error.strerror}); stop what listens"
                " there or set API_PORT to another port."
            ) from error
        listener.set_inheritable(True)  # workers are processes of their own
        yield listener


def _serve_alone(settings: "Settings", listener: socket.socket) -> None:
    """Serve in this process: the application opens everything itself."""
    import uvicorn
    from uvicorn.importer import import_from_string

    from compliance_copilot.settings import PROJECT_ROOT

    sys.path.insert(0, str(PROJECT_ROOT))
    announced = _Announced(import_from_string(_APPLICATION), lambda: _announce(settings))
    server = uvicorn.Server(_uvicorn_config(settings, announced))
    logging.getLogger("uvicorn.error").addFilter(lambda _: announced.fault is None)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        if announced.fault is not None:
            raise announced.fault from None
        raise


def _serve_supervised(settings: "Settings", listener: socket.socket, *, reload: bool) -> None:
    """Prepare once, then let worker processes serve; they share the server held here."""
    import uvicorn
    from uvicorn.supervisors import ChangeReload, Multiprocess

    from compliance_copilot.settings import PROJECT_ROOT

    sys.path.insert(0, str(PROJECT_ROOT))
    config = _uvicorn_config(settings, _APPLICATION, reload=reload)
    with _prepared(settings):
        _announce(settings)
        if reload:
            target = uvicorn.Server(config).run
            ChangeReload(config, target=target, sockets=[listener]).run()
            return
        supervisor = Multiprocess(config, sockets=[listener])
        supervisor.run()
    if any(worker.exitcode == _STARTUP_FAILURE for worker in supervisor.processes):
        sys.exit(1)


def _uvicorn_config(
    settings: "Settings", application: Any, *, reload: bool = False
) -> "uvicorn.Config":
    import uvicorn
    from uvicorn.config import LOGGING_CONFIG

    from compliance_copilot.gateway.connections import BoundedConnection
    from compliance_copilot.settings import PROJECT_ROOT

    # Our own lines tell what a person needs; uvicorn's come with LOG_LEVEL=DEBUG.
    lines = deepcopy(LOGGING_CONFIG)
    lines["loggers"]["uvicorn.error"] = {
        "level": "DEBUG" if settings.log_level == "DEBUG" else "WARNING"
    }
    return uvicorn.Config(
        application,
        http=BoundedConnection,
        ws="none",
        workers=1 if reload else settings.workers,
        reload=reload,
        reload_dirs=[str(PROJECT_ROOT / "src"), str(Path(PROJECT_ROOT))] if reload else None,
        log_config=None if settings.environment == "production" else lines,
        access_log=settings.environment == "development",
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        lifespan="on",
    )


class _Announced:
    """The application; its start is told when it is done, and its fault is kept."""

    def __init__(self, application: Any, announce: Callable[[], None]) -> None:
        self._application = application
        self._announce = announce
        self.fault: SetupError | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve; only the lifespan is listened to."""
        if scope["type"] != "lifespan":
            await self._application(scope, receive, send)
            return
        failures: list[Message] = []

        async def overheard(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failures.append(message)
                return
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._announce()

        try:
            await self._application(scope, receive, overheard)
        except SetupError as fault:
            self.fault = fault
            await send({"type": "lifespan.startup.failed", "message": ""})
        except BaseException:
            for message in failures:
                await send(message)
            raise


@contextmanager
def _prepared(settings: "Settings") -> Iterator[None]:
    """Start once, so that faults are told once; then hold the embedded server for the workers.

    It runs in a thread of its own: the supervisor of the workers takes this one.
    """
    ready, stop = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_hold(settings, ready, stop))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits for it
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


async def _hold(settings: "Settings", ready: threading.Event, stop: threading.Event) -> None:
    from compliance_copilot.storage.embedded import open_embedded
    from compliance_copilot.wiring import open_service

    async with AsyncExitStack() as stack:
        if settings.database_url is None:
            major = settings.embedded_postgres_version
            await stack.enter_async_context(open_embedded(settings.data_dir, major=major))
        async with open_service(settings):
            pass  # migrated, and the examples are in: the workers find everything
        ready.set()
        await asyncio.to_thread(stop.wait)


def _announce(settings: "Settings") -> None:
    from compliance_copilot.bootstrap import key_folder

    url = base_url(settings)
    if settings.environment == "production":
        LOG.info("serves %s", url)
        return
    lines = [f"Compliance Copilot serves {url} (try {url}/docs); Ctrl-C stops it."]
    keys = sorted(key_folder(settings.data_dir).glob("*.key"))
    if keys:
        lines += [
            f"Keys of the tenants: {keys[0].parent}/<tenant_id>.key",
            "Ask a first question:",
            f"  curl -s {url}/query -H \"Authorization: Bearer $(cat '{keys[0]}')\""
            " -H 'Content-Type: application/json'"
            ' -d \'{"query": "What are our data encryption requirements?"}\'',
        ]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def base_url(settings: "Settings") -> str:
    """Return where this machine reaches the service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.api_host, settings.api_host)  # noqa: S104
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{settings.api_port}"
