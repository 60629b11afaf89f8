"""Asking a tenant's chain of generators for a draft, checking its quotes, typing the outcome.

The chain is walked by `resilience.py`; the extractive generator ends every chain. Must not enter:
vendors, SQL, retries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.events import Delta, Event, Tell, nobody
from compliance_copilot.core.vocabulary import (
    Answer,
    DraftSentence,
    EffectiveConfig,
    ModelTier,
    ScoredChunk,
)
from compliance_copilot.rag import advice
from compliance_copilot.rag.answering import Composition
from compliance_copilot.rag.attempting import Attempts, Link, Settled
from compliance_copilot.rag.breaker import Breakers, State
from compliance_copilot.rag.citations import check
from compliance_copilot.rag.links import Links
from compliance_copilot.rag.ports import GenerationRequest
from compliance_copilot.rag.reading import reading_of
from compliance_copilot.rag.resilience import Finished, Resilient, Tried
from compliance_copilot.rag.spans import LOCAL, count_answer
from compliance_copilot.telemetry.tracing import span

UNVERIFIABLE = "unverifiable_answer"
"""A model answered, and not one of its sentences had a quote that stands in the sources."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A checked answer, who gave it, and what was tried before."""

    answer: Answer
    link: Link
    fallback: Mapping[str, Any] | None
    unsupported_sentences: int


class Answerer:
    """Answers from sources, by the first generator of a tenant's chain that can."""

    def __init__(self, links: Links, resilient: Resilient) -> None:
        self._links = links
        self._resilient = resilient

    @property
    def breakers(self) -> Breakers:
        """The breakers of this process, for readiness and metrics."""
        return self._resilient.breakers

    def chain(self, config: EffectiveConfig) -> list[Link]:
        """Return what can be asked, in order; the extractive generator is the last."""
        wanted = (config.model_tier, *config.fallback, ModelTier.EXTRACTIVE)
        found = (self._links.link(tier, config) for tier in dict.fromkeys(wanted))
        return [link for link in found if link is not None]

    def first(self, config: EffectiveConfig) -> Link:
        """Return what will be asked first as far as is known: no one whose breaker is open."""
        chain = self.chain(config)
        asked = (link for link in chain if self._state(link) is not State.OPEN)
        return next(asked, chain[-1])

    def _state(self, link: Link) -> State:
        return self.breakers.of((link.generator.provider, link.model, link.scope)).state

    def standing_reason(self, config: EffectiveConfig) -> str | None:
        """Return why the tier that is asked for cannot answer here at all, None when it can."""
        return self._links.missing(config.model_tier, config)

    async def answer(
        self,
        question: str,
        sources: Sequence[ScoredChunk],
        config: EffectiveConfig,
        attempts: Attempts,
        *,
        deadline: Deadline,
        tell: Tell = nobody,
    ) -> Answered:
        """Return a checked answer; `tell` hears its sentences as they become final.

        Raises ModelUnavailable, DeadlineExceeded, or what `attempts` raises.
        """
        asked = _Asked(question, sources, config, deadline, tell)
        chain = self.chain(config)
        finished = await self._drafted(chain, asked, attempts)
        tried = [*finished.tried]
        if finished.link.generator.provider != LOCAL and asked.unverifiable:
            attempts.ended(finished.link, Settled.of(finished.end, UNVERIFIABLE))
            tried[-1] = Tried(tried[-1].tier, tried[-1].provider, tried[-1].model, UNVERIFIABLE)
            finished = await self._drafted(chain[-1:], asked, attempts)
            tried += finished.tried
        return self._answered(asked, finished.link, tried)

    async def advise(
        self,
        instruction: str,
        text: str,
        config: EffectiveConfig,
        attempts: Attempts,
        *,
        deadline: Deadline,
    ) -> tuple[str, ...]:
        """Return what the first language model of the chain makes of a text, line by line.

        Empty when there is none, when it does not answer in its share of the time, or when what
        it says is nothing to go by. Raises what `attempts` raises.
        """
        link = self.first(config)
        if link.generator.provider == LOCAL:
            return ()
        request = GenerationRequest(
            text, (), link.model, min(config.max_tokens, advice.MOST_TOKENS), 0.0,
            instruction=instruction,
        )  # fmt: skip
        try:
            share = deadline.share(advice.SHARE_OF_TIME)
            told: list[Link | DraftSentence] = []
            await self._resilient.draft(
                [link], lambda _: request, told.append, attempts, deadline=share
            )
        except (ModelUnavailable, DeadlineExceeded):
            return ()
        return advice.lines_of([item for item in told if isinstance(item, DraftSentence)])

    def _answered(self, asked: "_Asked", link: Link, tried: Sequence[Tried]) -> Answered:
        answer = asked.composition.finish()
        sentences = len(asked.composition.sentences)
        unsupported = sentences - len(asked.composition.supported)
        fallback = self._fallback(asked.config, link, tried)
        count_answer(sentences, unsupported, fallback)
        for source in asked.sources:  # a reply may be kept; what was read for it is not
            reading_of(source.chunk).let_go()
        return Answered(answer, link, fallback, unsupported)

    async def _drafted(
        self, chain: Sequence[Link], asked: "_Asked", attempts: Attempts
    ) -> Finished:
        return await self._resilient.draft(
            chain,
            asked.request,
            asked.take,
            attempts,
            deadline=asked.deadline,
            shown=asked.is_shown,
        )

    def _fallback(
        self, config: EffectiveConfig, answered: Link, tried: Sequence[Tried]
    ) -> dict[str, Any] | None:
        """Return what a reader is told when another tier answered than the one asked for."""
        asked = config.model_tier
        if answered.tier is asked:
            return None
        reasons = [attempt.outcome for attempt in tried if attempt.tier is asked]
        reason = reasons[-1] if reasons else self._links.missing(asked, config) or "unavailable"
        return {
            "requested": asked.value,
            "answered": answered.tier.value,
            "reason": reason,
            "attempts": [
                {"provider": t.provider, "model": t.model, "outcome": t.outcome} for t in tried
            ],
        }


class _Asked:
    """One question on its way along a chain: the answer as far as it has come."""

    def __init__(
        self,
        question: str,
        sources: Sequence[ScoredChunk],
        config: EffectiveConfig,
        deadline: Deadline,
        tell: Tell,
    ) -> None:
        self.question = question
        self.sources = sources
        self.config = config
        self.deadline = deadline
        self._listener = tell
        self._shown = False
        self.begin()

    def begin(self) -> None:
        """Start anew: what an attempt before had drafted was in vain, and nobody has seen it."""
        self.composition = Composition(
            self.question, self.sources, unsupported=self.config.unsupported, tell=self._tell
        )

    def take(self, item: Link | DraftSentence) -> None:
        """Take in what a generator gives: its sentences, each checked."""
        if isinstance(item, Link):
            self.begin()
            return
        with span("verify"):
            checked = check(item, self.sources)
        self.composition.add(checked)

    def is_shown(self) -> bool:
        """Tell whether a reader has seen some of the answer."""
        return self._shown

    @property
    def unverifiable(self) -> bool:
        """Tell whether there are sentences, and none with a checked quote."""
        return bool(self.composition.sentences) and not self.composition.supported

    def request(self, link: Link) -> GenerationRequest:
        """Return what a generator is asked."""
        config = self.config
        return GenerationRequest(
            self.question,
            self.sources,
            link.model,
            config.max_tokens,
            config.temperature,
            config.min_evidence,
        )

    def _tell(self, event: Event) -> None:
        if self._listener is not nobody:
            self._shown = self._shown or isinstance(event, Delta)
            self._listener(event)
