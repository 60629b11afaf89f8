"""In which order the requests of a worker begin: as they came, one in each turn of the event loop.

Until its first wait (for the database, a model, its body) a request holds the loop, an answer made
of a mapped corpus for milliseconds. Of several that came together each would wait for all others
to get that far; so between any two the loop sends what is ready and reads what has come.
"""

import asyncio
import time
from collections import deque

from compliance_copilot.gateway.peers import Peers


class Turns:
    """Lets requests begin; the other workers see how many have come and have not begun."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._is_taken = False

    @property
    def waited_seconds(self) -> float:
        """For how long the next one has waited for its turn."""
        return time.monotonic() - self._waiting[0][0] if self._waiting else 0.0

    def expect(self) -> None:
        """Count one who has come."""
        self._peers.waiting += 1

    async def begin(self) -> None:
        """Wait until it is the turn of one who was expected."""
        try:
            if self._is_taken:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append((time.monotonic(), turn))
                await turn
            else:
                self._is_taken = True
                asyncio.get_running_loop().call_soon(self._next)
        finally:
            self._peers.waiting -= 1

    def _next(self) -> None:
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._is_taken = False
