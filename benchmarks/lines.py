"""A client that costs little: one request after another on a connection, raw bytes, keep-alive."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any


def request_bytes(path: str, key: str, body: dict[str, Any]) -> bytes:
    """Return a POST request as it goes over the wire."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: drill\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def get_bytes(path: str, key: str) -> bytes:
    """Return a GET request as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: drill\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


class Line:
    """A connection to the service, opened when it is first used and again when it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wire: _Wire | None = None

    async def ask(self, request: bytes) -> int:
        """Send one request and read its whole reply; return the status, 0 for none."""
        try:
            if self._wire is None:
                loop = asyncio.get_running_loop()
                _, self._wire = await loop.create_connection(_Wire, "127.0.0.1", self._port)
            head = await self._wire.head_of_reply(request)
        except OSError:
            self.close()
            return 0
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        """Leave the connection."""
        if self._wire is not None:
            self._wire.transport.close()
        self._wire = None


class _Wire(asyncio.Protocol):
    """What has come of one reply. Less work than a stream: it is on the service's cores."""

    transport: asyncio.Transport
    _reply: asyncio.Future[bytes]

    def __init__(self) -> None:
        self._came = bytearray()
        self._is_lost = False

    def head_of_reply(self, request: bytes) -> asyncio.Future[bytes]:
        """Send; return what gives the head, in small letters, when the whole reply is there."""
        self._reply = asyncio.get_running_loop().create_future()
        if self._is_lost:
            self._reply.set_exception(ConnectionError("closed"))
        else:
            self.transport.write(request)
        return self._reply

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        head = head_of_whole(self._came)
        if head and not self._reply.done():
            self._came.clear()
            self._reply.set_result(head)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._is_lost = True
        if not self._reply.done():
            self._reply.set_exception(ConnectionError("no reply"))


def head_of_whole(came: bytearray) -> bytes:
    """Return the head of a reply that has come whole, in small letters; of another nothing."""
    end = came.find(b"\r\n\r\n")
    if end < 0:
        return b""
    head = bytes(came[:end]).lower()
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    if length:
        return head if len(came) >= end + 4 + int(length) else b""
    return head if came.endswith(b"\r\n0\r\n\r\n") else b""  # the last of its chunks


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which this share of the values lies, 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
