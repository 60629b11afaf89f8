"""Asking a chain of generators for a draft, checking its quotes, typing the outcome.

A generator that fails before anything was shown hands over to the next of the chain; every
attempt is settled before the next is reserved. The extractive generator ends every chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import ModelUnavailable
from compliance_copilot.core.vocabulary import (
    Answer,
    DraftSentence,
    EffectiveConfig,
    GenerationEnd,
    ModelTier,
    ScoredChunk,
)
from compliance_copilot.rag.answering import assembled
from compliance_copilot.rag.citations import check
from compliance_copilot.rag.ports import GenerationRequest, Generator


@dataclass(frozen=True, slots=True)
class Engine:
    """What answers for a tier: a generator and the vendor's model id."""

    generator: Generator
    model: str


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

    async def move_on(self, failed: Attempt, tier: ModelTier) -> None:
        """Settle the failed attempt and reserve one on the next tier, in one transaction."""
        ...


class Answerer:
    """Answers from sources, by the first generator of a tenant's chain that can."""

    def __init__(
        self, engines: Mapping[ModelTier, Engine], missing: Mapping[ModelTier, str]
    ) -> None:
        self._engines = engines
        self._missing = missing

    def chain(self, config: EffectiveConfig) -> list[ModelTier]:
        """Return the tiers that can be asked, in order; the extractive generator is the last."""
        wanted = (config.model_tier, *config.fallback, ModelTier.EXTRACTIVE)
        return [tier for tier in dict.fromkeys(wanted) if tier in self._engines]

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
        chain = self.chain(config)
        reason = self._missing.get(config.model_tier)
        for tier, following in zip(chain, [*chain[1:], None], strict=True):
            engine = self._engines[tier]
            request = GenerationRequest(
                question,
                sources,
                engine.model,
                config.max_tokens,
                config.temperature,
                config.min_evidence,
            )
            try:
                sentences, end = await _collect(engine.generator, request, deadline)
            except ModelUnavailable as error:
                if following is None:
                    raise
                reason = str(error.facts.get("reason") or error.code)
                failed = Attempt(tier, engine.generator.provider, engine.model, error=reason)
                await attempts.move_on(failed, following)
                continue
            checked = [check(sentence, sources) for sentence in sentences]
            return Answered(
                assembled(question, checked, sources, unsupported=config.unsupported),
                Attempt(tier, engine.generator.provider, engine.model, end),
                _fallback(config.model_tier, tier, reason),
                sum(not sentence.supported for sentence in checked),
            )
        raise ModelUnavailable("No generator is set up.", provider=None, reason="not_initialized")


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
    async for part in generator.generate(request, deadline=deadline):
        if isinstance(part, GenerationEnd):
            return sentences, part
        sentences.append(part)
    raise ModelUnavailable(
        "The reply ended early.", provider=generator.provider, reason="interrupted"
    )
