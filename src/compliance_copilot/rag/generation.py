"""Asking a chain of generators for a draft, checking its quotes, typing the outcome.

A generator that fails before anything was shown hands over to the next of the chain; every
attempt is settled before the next is reserved. The extractive generator ends every chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from opentelemetry import baggage
from opentelemetry import context as otel_context

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.vocabulary import (
    Answer,
    DraftSentence,
    EffectiveConfig,
    GenerationEnd,
    ModelTier,
    ScoredChunk,
    Usage,
)
from compliance_copilot.rag.answering import assembled
from compliance_copilot.rag.attempting import Link
from compliance_copilot.rag.citations import CheckedSentence, check
from compliance_copilot.rag.links import Links
from compliance_copilot.rag.ports import GenerationRequest, Generator
from compliance_copilot.rag.spans import GenerationSpan, count_answer
from compliance_copilot.telemetry.tracing import span

SHARE_OF_TIME = 0.6
"""How much of the time that is left a generator may use when another stands behind it."""

UNVERIFIABLE = "unverifiable_answer"
"""A model answered, and not one of its sentences had a quote that stands in the sources."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a generator and how it ended."""

    tier: ModelTier
    provider: str
    model: str
    end: GenerationEnd | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A checked answer and the attempt it came from."""

    answer: Answer
    attempt: Attempt
    fallback: Mapping[str, Any] | None
    unsupported_sentences: int


class Attempts(Protocol):
    """Who keeps the ledger's rows while the chain is walked."""

    def sent(self) -> None:
        """Note that a generator is about to be called: from here on it may cost something."""
        ...

    async def move_on(self, ended: Attempt, tier: ModelTier) -> None:
        """Settle the ended attempt and reserve one on the next tier, in one transaction."""
        ...


class Answerer:
    """Answers from sources, by the first generator of a tenant's chain that can."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def chain(self, config: EffectiveConfig) -> list[ModelTier]:
        """Return the tiers that can be asked, in order; the extractive generator is the last."""
        wanted = (config.model_tier, *config.fallback, ModelTier.EXTRACTIVE)
        return [t for t in dict.fromkeys(wanted) if self._links.link(t, config) is not None]

    async def answer(
        self,
        question: str,
        sources: Sequence[ScoredChunk],
        config: EffectiveConfig,
        attempts: Attempts,
        *,
        deadline: Deadline,
    ) -> Answered:
        """Return a checked answer. Raises ModelUnavailable or DeadlineExceeded."""
        reason = self._links.missing(config.model_tier, config)
        tiers = self.chain(config)
        for place, tier in enumerate(tiers):
            last = place + 1 == len(tiers)
            attempts.sent()
            limit = deadline if last else deadline.share(SHARE_OF_TIME)
            drafted = await self._draft(tier, question, sources, config, limit)
            if drafted.attempt.error is None or last:
                if drafted.attempt.error is not None:
                    raise ModelUnavailable(
                        "No generator of the chain answered.",
                        provider=drafted.attempt.provider,
                        reason=drafted.attempt.error,
                    )
                answered = Answered(
                    assembled(question, drafted.sentences, sources, unsupported=config.unsupported),
                    drafted.attempt,
                    _fallback(config.model_tier, tier, reason),
                    sum(not sentence.supported for sentence in drafted.sentences),
                )
                count_answer(
                    len(drafted.sentences), answered.unsupported_sentences, answered.fallback
                )
                return answered
            reason = drafted.attempt.error
            following = ModelTier.EXTRACTIVE if reason == UNVERIFIABLE else tiers[place + 1]
            await attempts.move_on(drafted.attempt, following)
            if following is ModelTier.EXTRACTIVE:
                tiers[place + 1 :] = [following]
        raise ModelUnavailable("No generator is set up.", provider=None, reason="not_initialized")

    async def _draft(
        self,
        tier: ModelTier,
        question: str,
        sources: Sequence[ScoredChunk],
        config: EffectiveConfig,
        deadline: Deadline,
    ) -> "_Drafted":
        engine = cast("Link", self._links.link(tier, config))  # of the chain, so it is there
        attempt = Attempt(tier, engine.generator.provider, engine.model)
        request = GenerationRequest(
            question,
            sources,
            engine.model,
            config.max_tokens,
            config.temperature,
            config.min_evidence,
        )
        generating = GenerationSpan(attempt.provider, engine.model, request)
        outcome, end = "interrupted", None
        sentences: list[DraftSentence] = []
        try:
            sentences, end = await _collect(engine.generator, request, deadline)
            outcome = "ok"
        except ModelUnavailable as error:
            outcome = reason = str(error.facts.get("reason") or error.code)
            return _Drafted([], replace(attempt, error=reason, end=_end_of(error, engine.model)))
        except DeadlineExceeded:
            outcome = "timeout"
            spent = GenerationEnd(Usage(), engine.model, estimated=True)
            return _Drafted([], replace(attempt, error="timeout", end=spent))
        finally:
            generating.ended(outcome, end, sentences)
        with span("verify", {"sentences": len(sentences)}):
            checked = [check(sentence, sources) for sentence in sentences]
        verifiable = not checked or any(sentence.supported for sentence in checked)
        fault = None if verifiable or attempt.provider == "local" else UNVERIFIABLE
        return _Drafted(checked, replace(attempt, end=end, error=fault))


@dataclass(frozen=True, slots=True)
class _Drafted:
    """What one generator made of it: checked sentences, and how the attempt ended."""

    sentences: Sequence[CheckedSentence]
    attempt: Attempt


def _end_of(error: ModelUnavailable, model: str) -> GenerationEnd:
    usage = error.facts.get("usage")
    known = isinstance(usage, Usage)
    return GenerationEnd(usage if isinstance(usage, Usage) else Usage(), model, estimated=known)


def _fallback(asked: ModelTier, answered: ModelTier, reason: str | None) -> dict[str, Any] | None:
    if answered is asked:
        return None
    return {
        "requested": asked.value,
        "answered": answered.value,
        "reason": reason or "unavailable",
    }


async def _collect(
    generator: Generator, request: GenerationRequest, deadline: Deadline
) -> tuple[list[DraftSentence], GenerationEnd]:
    sentences: list[DraftSentence] = []
    # Some vendors' clients put the baggage into a header by themselves; ours names the tenant.
    token = otel_context.attach(baggage.clear())
    try:
        async for part in generator.generate(request, deadline=deadline):
            if isinstance(part, GenerationEnd):
                return sentences, part
            sentences.append(part)
    finally:
        otel_context.detach(token)
    raise ModelUnavailable(
        "The reply ended early.", provider=generator.provider, reason="interrupted"
    )
