"""What is decided on the wire: heads that do not come, and callers who are sent away.

The head of a request has a time and a size. Who is too much gets the refusal before a task is
made for him; what is not usual about a request (HEAD, `Expect`, pipelined) the application decides.
"""

import asyncio
from functools import partial
from typing import Any, Self

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from compliance_copilot.gateway.crowd import ALWAYS_SERVED
from compliance_copilot.gateway.refusing import ENTERED, ENTRANCE, Entrance, refusal_bytes

HEAD_SECONDS = 10.0
LARGEST_HEAD_BYTES = 64 * 1024
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's connection; one whose request's head does not come is closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._entrance: Entrance | None = self.app_state.get(ENTRANCE)
        self._timer: asyncio.TimerHandle | None = None
        self._head_is_due = True
        self._head_bytes = 0
        self._sent_away = False
        """The request whose body is still due has its reply."""
        self._is_between = True
        """No request has begun that has not come whole."""
        self._read_elsewhere = b""

    @classmethod
    def adopting(cls, data: bytes, **options: Any) -> Self:
        """Return what goes on with a connection of another worker, which has read `data`."""
        adopted = cls(**options)
        adopted._read_elsewhere = data
        return adopted

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._start_waiting()
        if self._entrance is not None:
            self._entrance.peers.join(
                partial(
                    self.adopting,
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.app_state,
                )
            )
        if self._read_elsewhere:  # before the transport reads on
            data, self._read_elsewhere = self._read_elsewhere, b""
            self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, or pass it to a worker with a shorter queue."""
        if self._entrance is not None and self._is_at_rest():
            descriptor = self.transport.get_extra_info("socket").fileno()
            if self._entrance.peers.passed(descriptor, data):
                self.transport.abort()  # ours alone: the other's descriptor keeps it open
                return
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Read on; a head without an end is not kept, nor is a body that nobody reads."""
        super().data_received(data)
        if not self._head_is_due:
            if self._sent_away:
                self._start_waiting()
            return
        self._start_waiting()
        self._head_bytes += len(data)
        if self._head_bytes > LARGEST_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Expect the head of the next request of a connection that is kept alive."""
        self._head_is_due, self._head_bytes = True, 0
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Decide: serve, or send away."""
        self._head_is_due = False
        self._stop_waiting()
        entrance = self._entrance if self._is_usual() else None
        path = self.url.partition(b"?")[0].decode("latin-1")
        reason = entrance.crowd.too_much(path, self.headers) if entrance else None
        if reason:
            self._send_away(reason)
            return
        super().on_headers_complete()
        if entrance and self.scope["path"] not in ALWAYS_SERVED:
            entrance.enter(self.headers)
            self.scope["state"][ENTERED] = True

    def on_body(self, body: bytes) -> None:
        """Hand over what somebody reads."""
        if not self._sent_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, or what is left of one that was sent away."""
        self._is_between = True
        if not self._sent_away:
            super().on_message_complete()
            return
        self._sent_away = False
        self._stop_waiting()
        if not self.parser.should_keep_alive():
            self.transport.close()
        self.on_response_complete()

    def _is_at_rest(self) -> bool:
        """Tell whether all is read and all is written of what has come so far."""
        answered = self.cycle is None or self.cycle.response_complete
        at_rest = self._is_between and answered and not self.pipeline
        return at_rest and not self.transport.get_write_buffer_size()

    def _is_usual(self) -> bool:
        cycle, parser = self.cycle, self.parser
        return (
            (cycle is None or cycle.response_complete)
            and not self.expect_100_continue
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
            and parser.get_method() != b"HEAD"
        )

    def _send_away(self, reason: str) -> None:
        self._sent_away = True
        closing, more = not self.parser.should_keep_alive(), self.server_state.default_headers
        self.transport.write(refusal_bytes(reason, more, closing=closing))

    def _start_waiting(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_SECONDS, self._cut)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
