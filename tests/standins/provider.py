"""A stand-in for OpenAI and Anthropic in its own process, with faults on demand.

Run: `python -m tests.standins.provider --port 0 --log calls.jsonl`; the first line printed is the
port. Every call is one JSON line in the log, written before the first byte of the reply: the ground
truth of what a provider would charge. Faults: `POST /_control {"mode": ..., "count": n (default:
until changed), "after_bytes": n, "seconds": s, "path": "/v1/messages"}`. Modes: `normal delay drip
429 401 400 500 503 529 cut headers blackhole garbage no_schema no_usage`, and what the model says:
`prose unsupported unverifiable obey bad_json empty`.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import parse_qs

from tests.standins import wire
from tests.standins.model import answer

SECRETS = ("authorization", "x-api-key", "api-key")
STATUSES = {"400": 400, "401": 401, "429": 429, "500": 500, "503": 503, "529": 529}
LISTS = ("/v1/models",)
"""What is there: asked for to see whether a key is taken."""
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found"}


@dataclass
class Fault:
    """What goes wrong, how often, and for whom."""

    mode: str = "normal"
    count: int = -1
    after_bytes: int = 0
    seconds: float = 1.0
    path: str = ""


@dataclass
class Request:
    """One HTTP request."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict
    query: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Provider:
    """The server's state: its faults and its log."""

    log: TextIO
    faults: list[Fault] = field(default_factory=list)
    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))
    calls: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it closes or a fault ends it."""
        try:
            while (request := await read(reader)) is not None:
                if request.path.startswith("/_control"):
                    await self._controlled(request, writer)
                elif not await self._called(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client went away; its call is in the log
        finally:
            writer.close()

    async def _controlled(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if request.method == "POST":
            self.faults = [fault for fault in self.faults if fault.count != 0]
            fault = Fault(**request.body)
            if fault.mode == "normal":
                self.faults = []
            else:
                self.faults.append(fault)
        await send(writer, 200, {"calls": self.calls, "faults": len(self.faults)})

    def _fault(self, path: str) -> Fault:
        """Return the fault that holds for a call: counted ones first, in the order given."""
        holding = [f for f in self.faults if f.count != 0 and f.path in ("", path)]
        holding.sort(key=lambda fault: fault.count < 0)
        if not holding:
            return Fault()
        # The latest of those without a count holds; earlier ones are replaced by it.
        fault = holding[0] if holding[0].count > 0 else holding[-1]
        fault.count -= fault.count > 0
        return fault

    async def _called(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one call; return whether the connection lives on."""
        fault = self._fault(request.path)
        request_id = f"standin-{next(self.numbers)}"
        status, reply = self._reply(request, fault, request_id)
        self._write(request, fault, request_id, status, reply)
        if fault.mode == "delay":
            await asyncio.sleep(fault.seconds)
        if fault.mode == "blackhole":
            await reader.read()  # until the client gives up
            return False
        if fault.mode == "headers":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
            await writer.drain()
            await reader.read()
            return False
        if status != 200:
            retry = {"retry-after": f"{fault.seconds:g}"} if status in (429, 503, 529) else {}
            await send(
                writer, status, _error(status, fault.mode), {"request-id": request_id, **retry}
            )
            return True
        if fault.mode == "garbage":
            await send(writer, 200, "<html>not what you expect</html>")
            return True
        if isinstance(reply, dict) or not request.body.get("stream"):
            body = reply if isinstance(reply, dict) else _whole(request, reply)
            return await _dripped(writer, _raw(200, body, {"x-request-id": request_id}), fault)
        return await self._stream(request, reply, fault, writer)

    def _reply(self, request: Request, fault: Fault, request_id: str) -> tuple[int, object]:
        if fault.mode in STATUSES:
            return STATUSES[fault.mode], None
        if fault.mode == "no_schema" and (
            "response_format" in request.body or "output_config" in request.body
        ):
            return 400, None
        if fault.mode in ("blackhole", "headers", "garbage"):
            return 200, None
        if request.path in LISTS:
            return 200, {"data": []}
        if request.path == "/v1/embeddings":
            return 200, wire.embeddings_body(request.body)
        if request.path in ("/v1/chat/completions", "/v1/messages"):
            text = answer(wire.prompt_of(request.body), fault.mode)
            return 200, wire.said(request_id, request.body, text)
        return 404, None

    async def _stream(
        self, request: Request, reply: wire.Said, fault: Fault, writer: asyncio.StreamWriter
    ) -> bool:
        if request.path == "/v1/messages":
            events = wire.anthropic_events(reply)
        else:
            wanted = (request.body.get("stream_options") or {}).get("include_usage", False)
            events = wire.openai_events(reply, usage=wanted and fault.mode != "no_usage")
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            b"x-request-id: %s\r\n\r\n" % reply.id.encode()
        )
        sent = 0
        for event in events:
            data = event.encode()
            if fault.mode == "cut" and sent + len(data) > fault.after_bytes:
                data = data[: max(0, fault.after_bytes - sent)]
                if data:
                    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
                await writer.drain()
                writer.transport.abort()
                return False
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            sent += len(data)
            await writer.drain()
            if fault.mode == "drip":
                await asyncio.sleep(fault.seconds)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _write(
        self, request: Request, fault: Fault, request_id: str, status: int, reply: object
    ) -> None:
        self.calls += 1
        charged = status == 200 and reply is not None and request.path not in LISTS
        usage = _usage(reply) if charged else (0, 0)
        line = {
            "at": time.time(),
            "path": request.path,
            "request_id": request_id,
            "status": status,
            "mode": fault.mode,
            "model": request.body.get("model"),
            "stream": bool(request.body.get("stream")),
            "input_tokens": usage[0],
            "output_tokens": usage[1],
            "charged": charged,
            "headers": {name: veiled(name, value) for name, value in request.headers.items()},
            "body": request.body,
        }
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()


def _usage(reply: object) -> tuple[int, int]:
    if isinstance(reply, wire.Said):
        return reply.input_tokens, reply.output_tokens
    return reply["usage"]["prompt_tokens"], 0  # embeddings


def veiled(name: str, value: str) -> str:
    if name not in SECRETS:
        return value
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()[:12]


def _whole(request: Request, reply: wire.Said) -> dict:
    if request.path == "/v1/messages":
        return wire.anthropic_body(reply)
    return wire.openai_body(reply)


def _error(status: int, mode: str) -> dict:
    message = (
        "response_format of type json_schema is not supported" if mode == "no_schema" else mode
    )
    return {"type": "error", "error": {"type": f"standin_{status}", "message": message}}


async def read(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request of a connection, or None at its end."""
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    place, _, query = path.partition("?")
    return Request(method, place, headers, json.loads(data) if data else {}, parse_qs(query))


def _raw(status: int, body: object, headers: dict[str, str]) -> bytes:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/html" if isinstance(body, str) else "application/json"
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Fault')}", f"content-type: {kind}"]
    lines += [f"content-length: {len(data)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


async def send(
    writer: asyncio.StreamWriter, status: int, body: object, headers: dict[str, str] | None = None
) -> None:
    """Send one whole reply."""
    writer.write(_raw(status, body, headers or {}))
    await writer.drain()


async def _dripped(writer: asyncio.StreamWriter, data: bytes, fault: Fault) -> bool:
    """Send a whole reply; cut or slow it when the fault says so."""
    if fault.mode == "cut":
        writer.write(data[: fault.after_bytes])
        await writer.drain()
        writer.transport.abort()
        return False
    step = 64 if fault.mode == "drip" else len(data)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        if fault.mode == "drip":
            await asyncio.sleep(fault.seconds)
    return True


async def serve(port: int, log: Path) -> None:
    """Serve until the process is ended."""
    with log.open("a", encoding="utf-8") as lines:
        server = await asyncio.start_server(Provider(lines).connected, "127.0.0.1", port)
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
        await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.log))


if __name__ == "__main__":
    main()
