"""One call of a generator as the ledger sees it: begun before it is made, ended in every case.

Must not enter: vendors, SQL, the order of a chain.
"""

from collections.abc import Sequence
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.context import Context

from compliance_copilot.core.errors import DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd, ModelTier, Usage
from compliance_copilot.rag.breaker import Breaker
from compliance_copilot.rag.ports import GenerationRequest, Generator
from compliance_copilot.rag.spans import LOCAL, GenerationSpan

DEAD = frozenset({"connect", "timeout", "server_error", "interrupted"})
"""Failures that speak against the provider; a refused key or a full quota does not."""

NOTHING_USED = Usage()


@dataclass(frozen=True, slots=True)
class Link:
    """One of a chain: what answers for a tier, and whose key it uses (empty: ours)."""

    tier: ModelTier
    generator: Generator
    model: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """What an attempt used and how it ended, for the ledger.

    `outcome` is `ok`, a reason of ModelUnavailable, or `interrupted` when nobody waited for it.
    """

    outcome: str
    usage: Usage = NOTHING_USED
    provider_model: str | None = None
    response_id: str | None = None
    estimated: bool = False

    @classmethod
    def of(cls, end: GenerationEnd, outcome: str = "ok") -> "Settled":
        """Return how a call ended that its generator brought to an end."""
        return cls(outcome, end.usage, end.provider_model, end.response_id, end.estimated)


class Attempts(Protocol):
    """Who keeps the ledger's rows while a chain is walked."""

    async def begin(self, link: Link) -> None:
        """Commit the row of an attempt. Raises StoreUnavailable or BudgetExhausted: no call."""
        ...

    def ended(self, link: Link, settled: Settled) -> None:
        """Take note of how the attempt ended; a later word on it counts instead.

        It is committed with the next `begin`, in one transaction, or with the reply.
        """
        ...


class Attempt:
    """An async context around one call; swallows what another link may mend.

    Afterwards either `end` is there, or `failure` is.
    """

    def __init__(
        self, link: Link, request: GenerationRequest, attempts: Attempts, breaker: Breaker
    ) -> None:
        self.request = request
        self.held: list[DraftSentence] = []
        self.end: GenerationEnd | None = None
        self.failure: ModelUnavailable | None = None
        self.outcome = "interrupted"
        self._link = link
        self._attempts = attempts
        self._breaker = breaker
        self._span: GenerationSpan | None = None
        self._token: Token[Context] | None = None

    async def __aenter__(self) -> "Attempt":
        """Begin the row: until it is there, nobody is called."""
        try:
            await self._attempts.begin(self._link)
        except BaseException:
            self._breaker.released()
            raise
        if self._link.generator.provider != LOCAL:
            # Some vendors' clients put the baggage into a header by themselves; ours names the
            # tenant.
            self._token = otel_context.attach(baggage.clear())
        self._span = GenerationSpan(self._link.generator.provider, self._link.model, self.request)
        return self

    def note(self, item: DraftSentence | GenerationEnd) -> None:
        """Keep what the generator gave."""
        if isinstance(item, GenerationEnd):
            self.end = item
        else:
            self.held.append(item)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Say how the row ends, tell the breaker, keep a failure for the chain."""
        if isinstance(error, DeadlineExceeded):
            error = self._unavailable("timeout")
        elif error is None and self.end is None:
            error = self._unavailable("interrupted")
        if isinstance(error, ModelUnavailable):
            self.failure = error
        settled = self._settled()
        self.outcome = settled.outcome
        self._tell_breaker(settled.outcome)
        if self._span is not None:
            self._span.ended(settled.outcome, self.end, self.held)
        if self._token is not None:
            otel_context.detach(self._token)
        self._attempts.ended(self._link, settled)
        return self.failure is not None

    def _unavailable(self, reason: str) -> ModelUnavailable:
        return ModelUnavailable(provider=self._link.generator.provider, reason=reason)

    def _settled(self) -> Settled:
        if self.failure is not None:
            return _failed(self.failure)
        if self.end is not None:
            return Settled.of(self.end)
        return _cut_off(self.request, self.held)

    def _tell_breaker(self, outcome: str) -> None:
        if self.end is not None and self.failure is None:
            self._breaker.succeeded()
        elif self.failure is not None and outcome in DEAD:
            self._breaker.failed()
        else:  # the reader left, or the provider refused: it tells nothing about its health
            self._breaker.released()


def _failed(error: ModelUnavailable) -> Settled:
    facts = error.facts
    used = facts.get("usage")
    return Settled(
        str(facts.get("reason") or error.code),
        used if isinstance(used, Usage) else NOTHING_USED,
        cast("str | None", facts.get("provider_model")),
        cast("str | None", facts.get("response_id")),
        bool(facts.get("estimated")),
    )


def _cut_off(request: GenerationRequest, held: Sequence[DraftSentence]) -> Settled:
    """Return what a call that nobody waited for is taken to have used: an estimate by bytes."""
    texts = [request.question, *(source.chunk.text for source in request.sources)]
    drafted = [sentence.text for sentence in held]
    usage = Usage(_estimated_tokens(texts), _estimated_tokens(drafted))
    return Settled("interrupted", usage, estimated=True)


def _estimated_tokens(texts: Sequence[str]) -> int:
    return -(-sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) // 4)
