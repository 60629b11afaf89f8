"""The workers of one port: a request goes where fewer wait, and its connection with it.

The kernel hands out connections, not requests, and clients keep theirs; so one worker may have a
queue while another has nothing to do. Each tells in a mapped file how many wait with it. One that
reads the beginning of a request while another has a shorter queue passes it the bytes and the
connection (SCM_RIGHTS), and forgets both. A worker is alone without a folder, and where the system
cannot do it.
"""

import asyncio
import logging
import mmap
import os
import socket
from array import array
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from compliance_copilot.storage.sockets import LIMIT_BYTES
from compliance_copilot.telemetry import metrics

LEAD = 2
"""So many fewer have to wait there: one would be worth no more than the passing costs."""
MOST_BYTES = 64 * 1024
_LOOK_SECONDS = 1.0
_WAITING, _TAKEN = 0, 1
_COUNTS_BYTES = 16
log = logging.getLogger("compliance_copilot.gateway")
Adopt = Callable[[bytes], asyncio.Protocol]
"""Makes what reads a connection, which has read these bytes already."""


@dataclass(slots=True)
class _Peer:
    address: str
    counts: memoryview
    seen_taken: int | None = field(default=None)
    """What it had taken when something was passed to it last."""

    @property
    def waiting(self) -> int:
        return int(self.counts[_WAITING])

    @property
    def is_ready(self) -> bool:
        """Whether it has taken what was passed to it last: until then its count is of before."""
        return self.seen_taken != self.counts[_TAKEN]


class Peers:
    """What a worker knows of the others, and they of it."""

    def __init__(self) -> None:
        self._own: Path | None = None
        self._counts: memoryview | list[int] = [0, 0]
        self._adopt: Adopt | None = None
        self._peers: dict[str, _Peer] = {}
        self._inbox: socket.socket | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._adopting: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests wait here for their turn; the others see it."""
        return self._counts[_WAITING]

    @waiting.setter
    def waiting(self, count: int) -> None:
        self._counts[_WAITING] = count

    def open(self, folder: Path | None, name: str = "") -> None:
        """Tell in this folder from now on how many wait here; `name`: its process's number."""
        if folder is None or not hasattr(socket, "SCM_RIGHTS"):
            return
        own = folder / (name or str(os.getpid()))
        if len(os.fsencode(_address(own))) > LIMIT_BYTES:
            log.warning("DATA_DIR is too long a path for the workers to pass on connections")
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own.unlink(missing_ok=True)  # of one who had this number before
        own.write_bytes(bytes(_COUNTS_BYTES))
        self._own, self._counts = own, _mapped(own)

    def join(self, adopt: Adopt) -> None:
        """Be there for the others from now on; a second time nothing happens."""
        if self._own is None or self._adopt is not None:
            return
        self._adopt = adopt
        address = _address(self._own)
        Path(address).unlink(missing_ok=True)
        inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        inbox.bind(address)
        asyncio.get_running_loop().add_reader(inbox, self._take_in, inbox)
        self._inbox = inbox
        self._look(self._own)

    def leave(self) -> None:
        """Be gone for the others; what they have passed already is served."""
        if self._own is not None:
            for path in (_address(self._own), self._own):
                Path(path).unlink(missing_ok=True)
        inbox, self._inbox = self._inbox, None
        if inbox is None:
            return
        self._take_in(inbox)
        asyncio.get_running_loop().remove_reader(inbox)
        inbox.close()
        if self._looking is not None:
            self._looking.cancel()

    def passed(self, descriptor: int, data: bytes) -> bool:
        """Pass a connection and what was read of it to one with whom fewer wait, if there is one.

        True: it is the other's now, and is to be forgotten here.
        """
        if self.waiting < LEAD or self._inbox is None or len(data) > MOST_BYTES:
            return False
        ready = [peer for peer in self._peers.values() if peer.is_ready]
        peer = min(ready, key=lambda peer: peer.waiting, default=None)
        if peer is None or peer.waiting + LEAD > self.waiting:
            return False
        taken = peer.counts[_TAKEN]
        try:
            # Not `socket.send_fds`: it does not pass the address on (Python 3.11).
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [descriptor]))
            self._inbox.sendmsg([data], [rights], 0, peer.address)
        except (ConnectionRefusedError, FileNotFoundError):
            self._forget(peer)
            return False
        except OSError:
            return False  # it has its hands full, or this is too much for one message
        peer.seen_taken = taken
        metrics.PASSED.labels("queue").inc()
        return True

    def _take_in(self, inbox: socket.socket) -> None:
        """Adopt what has been passed."""
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(
                    inbox, MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            self._counts[_TAKEN] += 1
            for descriptor in descriptors:
                task = asyncio.ensure_future(self._adopted(descriptor, data))
                self._adopting.add(task)
                task.add_done_callback(self._adopting.discard)

    async def _adopted(self, descriptor: int, data: bytes) -> None:
        adopt, loop = self._adopt, asyncio.get_running_loop()
        connection = socket.socket(fileno=descriptor)
        if adopt is None:
            raise RuntimeError("Nothing is passed to a worker that has not joined.")
        try:
            await loop.connect_accepted_socket(partial(adopt, data), connection)
        except OSError as error:  # its client is gone
            connection.close()
            log.debug("a passed connection was lost", extra={"reason": str(error)})

    def _look(self, own: Path) -> None:
        """See who is there."""
        self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, own)
        there = {path.stem for path in own.parent.glob("*.sock")} - {own.name}
        for name in there - self._peers.keys():
            path = own.with_name(name)
            with suppress(FileNotFoundError):  # it has just left
                self._peers[name] = _Peer(_address(path), _mapped(path))
        for name in self._peers.keys() - there:
            del self._peers[name]

    def _forget(self, peer: _Peer) -> None:
        """Take out one who is gone without a farewell, and what he left."""
        address = Path(peer.address)
        for path in (address, address.with_suffix("")):
            path.unlink(missing_ok=True)
        self._peers.pop(address.stem, None)


def _address(own: Path) -> str:
    return f"{own}.sock"


def _mapped(path: Path) -> memoryview:
    """Return the numbers of a file, as all see them who map it. Raises FileNotFoundError."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), _COUNTS_BYTES)).cast("q")
