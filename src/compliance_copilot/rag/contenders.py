"""A chunk on its way through the ranking, before anybody reads its text."""

from typing import NamedTuple
from uuid import UUID

from compliance_copilot.core.vocabulary import Chunk, ScoredChunk


class Place(NamedTuple):
    """Where a chunk stands. `document` is equal within a document, and in the order of ids."""

    document: str | int
    ordinal: int


class Contender(NamedTuple):
    """A chunk with its rank score and the parts it was made of (None: not in that list)."""

    chunk_id: UUID
    place: Place
    score: float
    dense: float | None = None
    sparse: float | None = None

    def scored(self, score: float) -> "Contender":
        """Return the same with another rank score."""
        return Contender(self.chunk_id, self.place, score, self.dense, self.sparse)

    def of(self, chunk: Chunk) -> ScoredChunk:
        """Return the chunk with these scores."""
        return ScoredChunk(chunk, self.score, self.dense, self.sparse)


def place_of(chunk: Chunk) -> Place:
    """Return where a chunk stands."""
    return Place(chunk.document_id, chunk.ordinal)
