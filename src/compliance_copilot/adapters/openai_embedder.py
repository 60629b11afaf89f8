"""OpenAI's embeddings, or those of any server with the same interface."""

import asyncio
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from compliance_copilot.adapters import drafting
from compliance_copilot.adapters.drafting import Progress
from compliance_copilot.adapters.outgoing import without_baggage
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.vocabulary import Usage
from compliance_copilot.rag.ports import Embedded, Vectors

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PROVIDER = "openai"
MODEL = "text-embedding-3-small"
_DIMENSIONS = 1536
# The vendor takes 2,048 texts, 300,000 tokens a call and 8,192 tokens a text. A token is at least
# one byte, so bytes bound tokens without a tokenizer.
_MOST_TEXTS = 2_048
_MOST_CALL_BYTES = 300_000
_MOST_TEXT_BYTES = 8_192


class OpenAIEmbedder:
    """Embeds in calls within the vendor's limits; one call is one request, never repeated here.

    `base_url` includes `/v1`. A text above 8,192 bytes is cut there: no chunk is that long, and a
    question only when it is not written in Latin letters.
    """

    provider = PROVIDER

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str | None = None,
        model: str = MODEL,
        dimensions: int = _DIMENSIONS,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._client: AsyncOpenAI | None = None
        self._sdk: Any = None
        self.name = model
        self.dimensions = dimensions

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        """Return unit vectors in order and the tokens that the vendor counted.

        A failure after the first of several calls says in `usage` what those before it cost.
        """
        if deadline.passed:
            raise DeadlineExceeded
        openai = await self.warm()
        client = self._opened(openai)
        vectors: list[Vectors] = []
        used = 0
        for batch in batched(texts):
            progress = Progress(self.name, 0)
            try:
                with without_baggage():
                    called = self._called(client, batch, deadline)
                    found, tokens = await drafting.in_time(called, deadline)
            except Exception as error:
                raise _unavailable(error, openai, progress, used) from error
            vectors.append(found)
            used += tokens
        empty = np.zeros((0, self.dimensions), dtype=np.float32)
        return Embedded(np.concatenate([empty, *vectors]), used)

    async def warm(self) -> Any:
        """Import the vendor's package (seconds) beside the event loop, and return it."""
        if self._sdk is None:
            self._sdk = await asyncio.to_thread(import_module, "openai")
        return self._sdk

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def _opened(self, openai: Any) -> "AsyncOpenAI":
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key,
                # Named, so that a variable of the process never sends a key elsewhere.
                base_url=self._base_url or "https://api.openai.com/v1",
                max_retries=0,
            )
        return self._client

    async def _called(
        self, client: "AsyncOpenAI", batch: Sequence[str], deadline: Deadline
    ) -> tuple[Vectors, int]:
        try:
            reply = await client.embeddings.create(
                model=self.name, input=list(batch), timeout=deadline.remaining_seconds()
            )
            return _checked(reply, len(batch), self.dimensions), reply.usage.prompt_tokens
        except (AttributeError, TypeError) as error:  # a body of another form, here or in the SDK
            raise ValueError("not a list of embeddings") from error


def batched(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield the texts in order, in calls that the vendor takes."""
    batch: list[str] = []
    size = 0
    for text in texts:
        sendable = _cut(text) or " "  # an empty text is refused
        length = len(sendable.encode("utf-8", "replace"))
        if batch and (len(batch) == _MOST_TEXTS or size + length > _MOST_CALL_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(sendable)
        size += length
    if batch:
        yield batch


def _cut(text: str) -> str:
    if len(text) * 4 <= _MOST_TEXT_BYTES:
        return text
    return text.encode("utf-8", "replace")[:_MOST_TEXT_BYTES].decode("utf-8", "ignore")


def _checked(reply: Any, texts: int, dimensions: int) -> Vectors:
    """Return the unit vectors of a reply. Raises ValueError when it is not what was asked for."""
    rows = sorted(reply.data, key=lambda row: row.index)
    vectors = np.array([row.embedding for row in rows], dtype=np.float32)
    if vectors.shape != (texts, dimensions) or not np.isfinite(vectors).all():
        raise ValueError(f"{vectors.shape} instead of {(texts, dimensions)}")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms == 0, 1, norms)).astype(np.float32)


def _unavailable(error: Exception, sdk: Any, progress: Progress, used: int) -> ModelUnavailable:
    found = drafting.unavailable(PROVIDER, error, sdk, progress)
    return ModelUnavailable(found.detail, **{**found.facts, "usage": Usage(used, 0)})
