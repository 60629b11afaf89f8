"""A way to a server that can turn into a black hole: connections stand, nothing passes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Tunnel:
    """Passes bytes on to a server of this machine while it is open.

    `target`: a port of loopback, or the path of a socket.
    """

    target: int | str
    port: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def blacken(self) -> None:
        """Swallow everything from now on, in both directions; new connections are accepted."""
        self.open.clear()

    def clear(self) -> None:
        """Let everything pass again; what was held back arrives late."""
        self.open.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.open.wait()
            there, back = await self._server()
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()

    async def _server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target)
        return await asyncio.open_connection("127.0.0.1", self.target)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            with suppress(ConnectionError):
                writer.close()


@asynccontextmanager
async def open_tunnel(target: int | str) -> AsyncIterator[Tunnel]:
    """Run a tunnel in this event loop."""
    tunnel = Tunnel(target)
    tunnel.clear()
    server = await asyncio.start_server(tunnel.connected, "127.0.0.1", 0)
    tunnel.port = server.sockets[0].getsockname()[1]
    try:
        yield tunnel
    finally:
        server.close()
        for task in tuple(tunnel.tasks):
            task.cancel()
        if tunnel.tasks:
            await asyncio.wait(tunnel.tasks, timeout=5)
