"""`METRICS_BIND`: the metrics on an address of their own, that only the operator reaches.

Answers `GET /metrics` and nothing else, without a key. All workers listen; any of them tells all.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from compliance_copilot.core.errors import SetupError
from compliance_copilot.telemetry import sharing

_PATIENCE_SECONDS = 5.0
_LONGEST_HEAD_BYTES = 8_192


@asynccontextmanager
async def exposed(address: str | None) -> AsyncIterator[None]:
    """Answer Prometheus on `host:port` while the context lasts; None: do not. Raises SetupError."""
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server = await asyncio.start_server(
            _answer,
            host.strip("[]"),
            int(port),
            limit=_LONGEST_HEAD_BYTES,
            reuse_port=sys.platform != "win32",  # there, the first worker listens alone
        )
    except (OSError, OverflowError) as error:
        raise SetupError(
            f"METRICS_BIND: {address} cannot be used ({error}); name a free host:port."
        ) from None
    async with server:
        yield


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _reply(head.split(b"\r\n", 1)[0]))
            await writer.drain()
    writer.close()


async def _reply(request_line: bytes) -> bytes:
    parts = request_line.split(b" ")
    if len(parts) != 3 or parts[0] != b"GET" or parts[1].split(b"?")[0] != b"/metrics":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = await asyncio.to_thread(sharing.exposition)
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {sharing.CONTENT_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
