"""What a reader is told while a question is being answered, in the order in which it happens.

`Sources` once, then `Delta` and `Cited` as sentences become final, then one `Done`. The deltas put
together are the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import Citation, QueryReply, Replay, ScoredChunk


@dataclass(frozen=True, slots=True)
class Sources:
    """What was found; nothing else is cited."""

    sources: Sequence[ScoredChunk]


@dataclass(frozen=True, slots=True)
class Delta:
    """The next stretch of the answer: whole sentences, already checked."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation that the stretch before it uses for the first time."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Done:
    """The whole reply, settled; or the stored one of a repeated `Idempotency-Key`."""

    reply: QueryReply | Replay


Event = Sources | Delta | Cited | Done
Tell = Callable[[Event], None]


def tell_whole(reply: QueryReply, tell: Tell) -> None:
    """Tell a reply that is there already, as if it were just being made."""
    tell(Sources(reply.sources))
    tell(Delta(reply.answer))
    for citation in reply.citations:
        tell(Cited(citation))
    tell(Done(reply))


def nobody(_event: Event) -> None:
    """Listen to nothing: the reply alone is wanted."""
