"""A client that costs little: one request after another on a connection, raw bytes, keep-alive."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass
class Line:
    """A connection to the service, opened when it is first used and again when it was closed."""

    port: int
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """Send one request and read its whole reply; return the status, 0 for none."""
        try:
            if self.writer is None:
                self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.writer.write(request)
            return await self._reply()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return 0

    async def _reply(self) -> int:
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if length:
            await self.reader.readexactly(int(length))
        else:
            while (size := int(await self.reader.readline(), 16)) > 0:
                await self.reader.readexactly(size + 2)
            await self.reader.readline()
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        """Leave the connection."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value below which this share of the values lies, 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
