"""A circuit breaker for each provider and model: a dead one is found out once, not by everybody.

State of this process only: a wrong guess costs one probe. Must not enter: providers, ledgers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

Key = tuple[str, str, str]
"""Provider, model, and whose key is used (empty: the service's own)."""


class State(StrEnum):
    """What a breaker lets through: everything, nothing, or one probe at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """After how many failures in a row it opens, and for how long.

    Each failed probe doubles the time, up to `most_open_seconds`.
    """

    failures: int = 3
    open_seconds: float = 10.0
    most_open_seconds: float = 120.0


class Breaker:
    """One provider and model. Each `admit` that gives True is followed by one of the three words
    `succeeded`, `failed`, `released`.
    """

    def __init__(self, policy: BreakerPolicy, now: Callable[[], float]) -> None:
        self._policy = policy
        self._now = now
        self._failures = 0
        self._open_seconds = policy.open_seconds
        self._opened_at: float | None = None
        self._probing = False

    @property
    def state(self) -> State:
        """Return what it would do with the next call."""
        if self._opened_at is None:
            return State.CLOSED
        waited = self._now() - self._opened_at
        return State.HALF_OPEN if waited >= self._open_seconds else State.OPEN

    def admit(self) -> bool:
        """Tell whether a call may be made now."""
        state = self.state
        if state is State.CLOSED:
            return True
        if state is State.OPEN or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The provider answered: all is well again."""
        self._failures = 0
        self._open_seconds = self._policy.open_seconds
        self._opened_at = None
        self._probing = False

    def failed(self) -> None:
        """The provider did not answer."""
        self._failures += 1
        if self._opened_at is None:
            if self._failures >= self._policy.failures:
                self._opened_at = self._now()
        elif self._probing:
            # Calls that began before it opened end late; only a probe prolongs.
            self._open_seconds = min(2 * self._open_seconds, self._policy.most_open_seconds)
            self._opened_at = self._now()
            self._probing = False

    def released(self) -> None:
        """The call ended without telling anything (cancelled, refused by the provider)."""
        self._probing = False


class Breakers:
    """The breakers of this process, made when first asked for."""

    def __init__(
        self,
        policy: BreakerPolicy = BreakerPolicy(),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._now = now
        self._breakers: dict[Key, Breaker] = {}

    def of(self, key: Key) -> Breaker:
        """Return the breaker of a provider, a model and a key's owner."""
        if key not in self._breakers:
            self._breakers[key] = Breaker(self._policy, self._now)
        return self._breakers[key]

    def states(self) -> Mapping[Key, State]:
        """Return the state of each, for readiness and metrics."""
        return {key: breaker.state for key, breaker in self._breakers.items()}
