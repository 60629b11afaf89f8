"""What the two hosted generators have in common: time, errors, and the reading of a stream.

The one place where a vendor's error becomes ours.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from compliance_copilot.adapters.prompting import BadDraftError, DraftReader
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import ModelUnavailable
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd, Usage

T = TypeVar("T")
_BYTES_PER_TOKEN = 4
_STATUS_REASONS = {401: "auth", 403: "auth", 408: "timeout", 429: "rate_limited", 404: "model"}
_NO_CONNECTION = ("ConnectError", "ConnectTimeout")  # each package brings a transport of its own
_MOST_RETRY_AFTER_SECONDS = 3600.0


class SchemaRefusedError(ValueError):
    """The server knows no JSON schema; the next call asks for plain text."""


@dataclass(slots=True)
class Progress:
    """What is known about a call while it runs; an interrupted one is charged by it."""

    model: str
    prompt_bytes: int
    response_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    finish_reason: str | None = None
    cut: bool = False
    received: list[str] = field(default_factory=list)

    @property
    def estimated(self) -> bool:
        """Tell whether the provider has left a number out."""
        return self.input_tokens is None or self.output_tokens is None

    def usage(self) -> Usage:
        """Return the tokens as far as told, the rest counted by bytes."""
        sent, got = self.input_tokens, self.output_tokens
        received = len("".join(self.received).encode("utf-8", "surrogatepass"))
        return Usage(
            math.ceil(self.prompt_bytes / _BYTES_PER_TOKEN) if sent is None else sent,
            math.ceil(received / _BYTES_PER_TOKEN) if got is None else got,
            self.cached_input_tokens,
        )


class Sdk(Protocol):
    """The names that both vendors' packages share."""

    @property
    def APIError(self) -> type[Exception]:  # noqa: N802 - the vendors' names
        """The root of a vendor's errors."""
        ...

    @property
    def APITimeoutError(self) -> type[Exception]:  # noqa: N802
        """No answer in time."""
        ...

    @property
    def APIConnectionError(self) -> type[Exception]:  # noqa: N802
        """No connection, or a lost one."""
        ...

    @property
    def APIStatusError(self) -> type[Exception]:  # noqa: N802
        """An answer with an error status."""
        ...


async def drafted(
    provider: str, sdk: Sdk, pieces: AsyncIterator[str], progress: Progress, deadline: Deadline
) -> AsyncIterator[DraftSentence | GenerationEnd]:
    """Yield sentences from a stream of text, then the end with what was used.

    Every wait ends with the deadline. Raises ModelUnavailable with `usage` and `estimated` once
    the provider has begun to answer.
    """
    reader, more = DraftReader(), True
    try:
        while more:
            try:
                found = await in_time(_next(pieces, reader, progress), deadline)
                more = found is not None
                found = reader.finish(cut=progress.cut) if found is None else found
            except Exception as error:
                raise unavailable(provider, error, sdk, progress) from error
            for sentence in found:
                yield sentence
    finally:
        await _closed(pieces)
    yield GenerationEnd(
        progress.usage(),
        progress.model,
        progress.response_id,
        progress.finish_reason or "unknown",
        progress.estimated,
    )


async def _next(
    pieces: AsyncIterator[str], reader: DraftReader, progress: Progress
) -> list[DraftSentence] | None:
    """Return the sentences that are whole next, None when no more text comes."""
    async for piece in pieces:
        found = reader.feed(piece)
        progress.received.append(piece)
        if found:
            return found
    return None


async def in_time(work: Awaitable[T], deadline: Deadline) -> T:
    """Await something no longer than the deadline. Raises TimeoutError."""
    async with asyncio.timeout(deadline.remaining_seconds()):
        return await work


async def _closed(pieces: AsyncIterator[str]) -> None:
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()


def unavailable(provider: str, error: Exception, sdk: Sdk, progress: Progress) -> ModelUnavailable:
    """Return our error for a vendor's: the reason, how long to wait, and what was used.

    Reasons: `timeout connect rate_limited server_error bad_response auth model interrupted
    bad_request schema_refused`.
    """
    facts: dict[str, Any] = {"provider": provider, "reason": _reason(error, sdk, progress)}
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is not None and (seconds := retry_after_seconds(headers)) is not None:
        facts["retry_after_seconds"] = seconds
    if progress.response_id is not None or progress.received:
        facts["usage"] = progress.usage()
        facts["estimated"] = progress.estimated
        facts["response_id"] = progress.response_id
        facts["provider_model"] = progress.model
    return ModelUnavailable(f"{provider} did not answer: {facts['reason']}.", **facts)


def _reason(error: Exception, sdk: Sdk, progress: Progress) -> str:
    if isinstance(error, (TimeoutError, sdk.APITimeoutError)):
        return "timeout"
    if isinstance(error, sdk.APIStatusError):
        status = int(getattr(error, "status_code", 500))
        if progress.received:
            return "interrupted"
        return _STATUS_REASONS.get(status, "server_error" if status >= 500 else "bad_request")
    if isinstance(error, SchemaRefusedError):
        return "schema_refused"
    if isinstance(error, (BadDraftError, ValueError)):
        return "bad_response"
    if isinstance(error, sdk.APIConnectionError):
        # Once a connection stood, the request may have been worked on and charged.
        refused = type(error.__cause__).__name__ in _NO_CONNECTION
        return "connect" if refused else "interrupted"
    if isinstance(error, sdk.APIError):
        return "server_error"
    # What the transport raises while a stream is read is not wrapped by every package.
    return "interrupted"


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long a provider asks to wait, from `retry-after-ms` or `retry-after`."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0.0 <= seconds <= _MOST_RETRY_AFTER_SECONDS:
            return seconds
    return None
