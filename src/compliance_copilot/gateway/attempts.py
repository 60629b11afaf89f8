"""Failed authentications per client address: after so many, the database is not asked any more.

In memory and bounded, for each process its own: it spares the database, keys of 256 bits need no
more. Whoever presents a key that this process knows is served from any address.
"""

import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

MOST_FAILURES = 100
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000
_NETWORK_BITS = 64


class FailedAttempts:
    """Counts failures by address in windows that start with the first one."""

    def __init__(self, most: int = MOST_FAILURES, window_seconds: float = WINDOW_SECONDS) -> None:
        self._most = most
        self._window_seconds = window_seconds
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """Return how long the address has to wait, 0 when it need not."""
        if not self._counts:
            return 0.0
        started, count = self._counts.get(_network(address), (0.0, 0))
        left = started + self._window_seconds - time.monotonic()
        return left if count >= self._most and left > 0 else 0.0

    def note(self, address: str) -> None:
        """Count a failure; the address heard of least recently is forgotten for a new one."""
        network, now = _network(address), time.monotonic()
        started, count = self._counts.pop(network, (now, 0))
        if now - started >= self._window_seconds:
            started, count = now, 0
        self._counts[network] = (started, count + 1)
        if len(self._counts) > MOST_ADDRESSES:
            self._counts.popitem(last=False)


def _network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(int(parsed) >> _NETWORK_BITS)
    return address
