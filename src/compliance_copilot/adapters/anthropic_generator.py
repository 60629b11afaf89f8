"""Answers by Anthropic's messages."""

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from compliance_copilot.adapters import drafting, prompting
from compliance_copilot.adapters.drafting import Progress
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd
from compliance_copilot.rag.ports import GenerationRequest

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

PROVIDER = "anthropic"
_FORMAT = {"format": {"type": "json_schema", "schema": prompting.SCHEMA}}


class AnthropicGenerator:
    """Streams a structured draft; one call is one request, never repeated in here.

    `base_url` has no `/v1`. A server that refuses the JSON schema is asked in plain text from the
    next call on. The present API takes no temperature.
    """

    def __init__(self, api_key: str, *, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._client: AsyncAnthropic | None = None
        self._sdk: Any = None
        self._without_schema: set[str] = set()
        self._lender: AnthropicGenerator | None = None

    def with_key(self, api_key: str) -> "AnthropicGenerator":
        """Return a generator that calls by another key, over this one's connections."""
        other = AnthropicGenerator(api_key, base_url=self._base_url)
        other._without_schema = self._without_schema
        other._lender = self
        return other

    @property
    def provider(self) -> str:
        """Return the ledger's word."""
        return PROVIDER

    async def generate(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[DraftSentence | GenerationEnd]:
        """Yield sentences as they are complete, then the end with the provider's count."""
        if deadline.passed:
            raise DeadlineExceeded
        anthropic = await self.warm()
        message = prompting.user_message(request.question, request.sources)
        progress = Progress(request.model, len(f"{prompting.SYSTEM}{message}".encode()))
        client = self._opened(anthropic)
        pieces = self._pieces(client, anthropic, request, message, progress, deadline)
        async for item in drafting.drafted(PROVIDER, anthropic, pieces, progress, deadline):
            yield item

    async def warm(self) -> Any:
        """Import the vendor's package (seconds) beside the event loop, and return it."""
        if self._lender is not None:
            return await self._lender.warm()
        if self._sdk is None:  # sys.modules would show a package that is half imported
            self._sdk = await asyncio.to_thread(import_module, "anthropic")
        return self._sdk

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def _opened(self, anthropic: Any) -> "AsyncAnthropic":
        if self._lender is not None:
            return self._lender._opened(anthropic).with_options(api_key=self._api_key)
        if self._client is None:
            self._client = anthropic.AsyncAnthropic(
                api_key=self._api_key,
                # Named, so that a variable of the process never sends a key elsewhere.
                base_url=self._base_url or "https://api.anthropic.com",
                max_retries=0,
            )
        return self._client

    async def _pieces(
        self,
        client: "AsyncAnthropic",
        anthropic: Any,
        request: GenerationRequest,
        message: str,
        progress: Progress,
        deadline: Deadline,
    ) -> AsyncIterator[str]:
        try:
            stream = await client.messages.create(
                **self._arguments(request, message), timeout=deadline.remaining_seconds()
            )
        except anthropic.BadRequestError as error:
            if "json_schema" in str(error) or "output_config" in str(error):
                self._without_schema.add(request.model)
                raise drafting.SchemaRefusedError from error
            raise
        ended = False
        try:
            async for event in stream:
                _note(progress, event)
                ended = ended or event.type == "message_stop"
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    yield event.delta.text
        finally:
            await stream.close()
        if not ended:
            raise ConnectionError("The stream ended before the answer did.")

    def _arguments(self, request: GenerationRequest, message: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "system": prompting.SYSTEM,
            "messages": [{"role": "user", "content": message}],
            "stream": True,
        }
        if request.model not in self._without_schema:
            arguments["output_config"] = _FORMAT
        return arguments


def _note(progress: Progress, event: Any) -> None:
    if event.type == "message_start":
        used = event.message.usage
        progress.response_id = event.message.id
        progress.model = event.message.model or progress.model
        # Anthropic counts cached tokens beside the input, the ledger counts them within it.
        progress.cached_input_tokens = used.cache_read_input_tokens or 0
        written = used.cache_creation_input_tokens or 0
        progress.input_tokens = used.input_tokens + progress.cached_input_tokens + written
    elif event.type == "message_delta":
        progress.output_tokens = event.usage.output_tokens
        progress.finish_reason = event.delta.stop_reason
        progress.cut = progress.finish_reason == "max_tokens"
