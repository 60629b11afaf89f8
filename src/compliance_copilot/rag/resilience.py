"""Written once around any generator: remaining time, retries, breakers, the chain of fallbacks.

No provider is called before the attempt has a row, and each attempt ends once, whatever becomes
of it. Must not enter: vendors, SQL, the checking of quotes.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import cast

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError, DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd, ModelTier
from compliance_copilot.rag.attempting import Attempt, Attempts, Link
from compliance_copilot.rag.breaker import Breakers
from compliance_copilot.rag.ports import GenerationRequest
from compliance_copilot.rag.spans import LOCAL

RETRYABLE = frozenset({"connect", "rate_limited", "server_error", "schema_refused"})
"""Failures that cost nothing and may be over in a moment. What was begun was paid for: a broken or
interrupted reply and a timeout go to the next of the chain instead."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one attempt; at `breaker_open` and `no_time` nobody was called."""

    tier: ModelTier
    provider: str
    model: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How a chain ended well: who answered, and everything that was tried on the way."""

    end: GenerationEnd
    link: Link
    tried: Sequence[Tried]


@dataclass(frozen=True, slots=True)
class Policy:
    """How often, and how long.

    `attempts`: calls of one link; `most_wait_seconds`: a longer Retry-After goes to the next link;
    `kept_seconds`: what is left for local links that follow, `kept_share` for hosted ones.
    """

    attempts: int = 2
    first_wait_seconds: float = 0.2
    most_wait_seconds: float = 4.0
    kept_seconds: float = 1.0
    kept_share: float = 0.4


Taker = Callable[[Link | DraftSentence], object]
"""Who takes what comes: for each attempt its link, then its sentences. A link that comes after
sentences means that those were in vain."""


@dataclass(slots=True)
class _Run:
    """One walk along a chain."""

    request: Callable[[Link], GenerationRequest]
    take: Taker
    attempts: Attempts
    deadline: Deadline
    shown: Callable[[], bool]
    tried: list[Tried] = field(default_factory=list)

    def note(self, link: Link, outcome: str) -> None:
        self.tried.append(Tried(link.tier, link.generator.provider, link.model, outcome))


def _never() -> bool:
    return False


class Resilient:
    """Asks the generators of a chain until one answers."""

    def __init__(
        self,
        breakers: Breakers,
        policy: Policy = Policy(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.breakers = breakers
        self._policy = policy
        self._sleep = sleep

    async def draft(
        self,
        chain: Sequence[Link],
        request: Callable[[Link], GenerationRequest],
        take: Taker,
        attempts: Attempts,
        *,
        deadline: Deadline,
        shown: Callable[[], bool] = _never,
    ) -> Finished:
        """Hand `take` each attempt's link and its sentences as they come; return who answered.

        Once `shown` says that a reader has seen some of it, there is no other attempt. Raises
        ModelUnavailable (facts: `provider`, `reason`, `attempts`), DeadlineExceeded, or what
        `attempts` raises.
        """
        run = _Run(request, take, attempts, deadline, shown)
        for place, link in enumerate(chain):
            end = await self._asked(run, link, chain[place + 1 :])
            if end is not None:
                return Finished(end, link, tuple(run.tried))
        raise _given_up(run)

    async def _asked(
        self, run: _Run, link: Link, following: Sequence[Link]
    ) -> GenerationEnd | None:
        """Ask one link, as often as the policy allows; None when it did not answer."""
        breaker = self.breakers.of((link.generator.provider, link.model, link.scope))
        for number in range(1, self._policy.attempts + 1):
            kept = self._kept_seconds(run.deadline, following)
            if run.deadline.remaining_seconds() <= kept:
                run.note(link, "no_time")
                return None
            if not breaker.admit():
                run.note(link, "breaker_open")
                return None
            limit = Deadline(run.deadline.at_seconds - kept)
            attempt = Attempt(link, run.request(link), run.attempts, breaker)
            await _attempted(run, link, attempt, limit)
            if attempt.failure is None:
                return attempt.end
            if not await self._worth_another(run, number, attempt.failure, limit):
                return None
        return None

    def _kept_seconds(self, deadline: Deadline, following: Sequence[Link]) -> float:
        """Return the seconds that belong to the links that follow."""
        remaining = deadline.remaining_seconds()
        if not following:
            return 0.0
        if all(link.generator.provider == LOCAL for link in following):
            return min(self._policy.kept_seconds, 0.5 * remaining)
        return self._policy.kept_share * remaining

    async def _worth_another(
        self, run: _Run, number: int, failure: ModelUnavailable, limit: Deadline
    ) -> bool:
        """Tell, after waiting, whether the same link is to be asked again."""
        if run.shown():
            raise failure
        if number >= self._policy.attempts or failure.facts.get("reason") not in RETRYABLE:
            return False
        wait = self._wait_seconds(number, failure)
        if wait > self._policy.most_wait_seconds or wait >= limit.remaining_seconds():
            return False
        await self._sleep(wait)
        return True

    def _wait_seconds(self, number: int, failure: ModelUnavailable) -> float:
        """Return a jittered, doubling pause; never less than the provider asks for."""
        if failure.facts.get("reason") == "schema_refused":
            return 0.0
        wished = cast("float", failure.facts.get("retry_after_seconds", 0.0))
        doubled: float = self._policy.first_wait_seconds * 2 ** (number - 1)
        return max(doubled * random.uniform(0.5, 1.0), wished)  # noqa: S311 - not a secret


async def _attempted(run: _Run, link: Link, attempt: Attempt, limit: Deadline) -> None:
    """Make one call; how it went is left in the attempt."""
    async with attempt:
        run.take(link)
        stream = link.generator.generate(attempt.request, deadline=limit)
        async with aclosing(cast("AsyncGenerator[DraftSentence | GenerationEnd, None]", stream)):
            async for item in stream:
                attempt.note(item)
                if isinstance(item, DraftSentence):
                    run.take(item)
    run.note(link, attempt.outcome)


def _given_up(run: _Run) -> CopilotError:
    if run.deadline.passed:
        return DeadlineExceeded("The time for this request is over.", attempts=tuple(run.tried))
    last = run.tried[-1] if run.tried else None
    reason = last.outcome if last else "not_initialized"
    return ModelUnavailable(
        f"No generator answered: {reason}.",
        provider=last.provider if last else None,
        reason=reason,
        attempts=tuple(run.tried),
    )
