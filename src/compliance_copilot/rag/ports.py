"""The three seams with two or more real things behind them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import (
    Chunk,
    DraftSentence,
    GenerationEnd,
    ScoredChunk,
    TenantId,
)
from compliance_copilot.rag.contenders import Place
from compliance_copilot.rag.filters import Filter
from compliance_copilot.rag.ranking import TermCounts, TermStatistics

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of shape (texts, dimensions), each of length 1, and the tokens a vendor counted."""

    vectors: Vectors
    input_tokens: int = 0


class Embedder(Protocol):
    """Turns texts into unit vectors. Keeps nothing, never learns the tenant."""

    @property
    def name(self) -> str:
        """Name what made a vector, e.g. `wordllama-256`; stored beside every corpus."""
        ...

    @property
    def provider(self) -> str:
        """`local` or the vendor's name."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        """Return one unit vector per text, in order.

        Raises ModelUnavailable or DeadlineExceeded.
        """
        ...


@dataclass(frozen=True, slots=True)
class HybridQuery:
    """A question as an index understands it.

    `dense`: unit vector; `terms`: ids of the question's uni- and bigrams with their counts
    (`rag/analysis.py`). The index looks up the tenant's own document frequencies.
    """

    dense: Vectors
    terms: Mapping[int, int] = field(default_factory=dict)
    corpus_version: int | None = None
    """What admission saw: an index in memory of another version is not asked."""
    embedder: str | None = None
    """Which embedder made `dense`: the corpus has to be made by the same."""
    filters: Filter | None = None
    as_of: datetime | None = None
    """Only the versions in force at this instant; None: now."""


@dataclass(frozen=True, slots=True)
class RankedLists:
    """Two ranked lists of one search, best first, and the chunks they name.

    `chunks` may read a chunk only when it is asked for; `places` is at hand for all. `vectors`
    holds the candidates' dense vectors, the chunk's number in `rows` being the row.
    """

    dense: Sequence[tuple[UUID, float]]
    sparse: Sequence[tuple[UUID, float]]
    chunks: Mapping[UUID, Chunk]
    places: Mapping[UUID, Place]
    statistics: TermStatistics | None = None
    counts: TermCounts | None = None
    rows: Mapping[UUID, int] = field(default_factory=dict)
    vectors: Vectors | None = None
    path: str = ""
    """Who nominated the chunks: `sql`, `hot` or `pinecone`."""


class VectorIndex(Protocol):
    """Finds chunks of one tenant; scores are made by `scoring.ranked_lists`, fused by `fusion`."""

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        """Return up to `limit` chunks by inner product and up to `limit` by BM25.

        Raises RetrievalUnavailable or DeadlineExceeded; never an empty list for an outage.
        """
        ...

    async def score(
        self,
        tenant_id: TenantId,
        query: HybridQuery,
        chunk_ids: Sequence[UUID],
        *,
        limit: int,
        deadline: Deadline,
    ) -> RankedLists:
        """Return both lists over these chunks alone, scored as `search` scores.

        Ids that are unknown, not in force or outside of the filters are left out. Raises as
        `search` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a generator is given. `max_tokens` bounds the output.

    With an `instruction` it is no question to be answered from sources: a language model does what
    it says and writes plain lines, each a sentence without quotes. A local generator is not asked.
    """

    question: str
    sources: Sequence[ScoredChunk]
    model: str
    max_tokens: int
    temperature: float = 0.0
    min_evidence: float = 0.5
    instruction: str | None = None


class Generator(Protocol):
    """Drafts an answer from sources. Keeps nothing, never learns the tenant, never retries."""

    @property
    def provider(self) -> str:
        """`local`, `openai` or `anthropic`: the ledger's word."""
        ...

    def generate(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[DraftSentence | GenerationEnd]:
        """Yield sentences with their claimed quotes as they come, then one GenerationEnd.

        Raises ModelUnavailable (facts: provider, reason, retry_after_seconds?, usage?) or
        DeadlineExceeded. Nothing a document says changes what is called.
        """
        ...

    async def aclose(self) -> None:
        """Close what is open to the provider."""
        ...
