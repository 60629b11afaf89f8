"""Answers by OpenAI's chat completions, or by any server that speaks them."""

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
    from openai import AsyncOpenAI

PROVIDER = "openai"
_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": prompting.SCHEMA},
}


class OpenAIGenerator:
    """Streams a structured draft; one call is one request, never repeated in here.

    `base_url` includes `/v1`. A server that refuses the JSON schema is asked in plain text from
    the next call on.
    """

    def __init__(self, api_key: str, *, base_url: str | None = None) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._client: AsyncOpenAI | None = None
        self._sdk: Any = None
        self._without_schema: set[str] = set()
        self._lender: OpenAIGenerator | None = None

    def with_key(self, api_key: str) -> "OpenAIGenerator":
        """Return a generator that calls by another key, over this one's connections."""
        other = OpenAIGenerator(api_key, base_url=self._base_url)
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
        openai = await self.warm()
        message = prompting.user_message(request.question, request.sources)
        progress = Progress(request.model, len(f"{prompting.SYSTEM}{message}".encode()))
        client = self._opened(openai)
        pieces = self._pieces(client, openai, request, message, progress, deadline)
        async for item in drafting.drafted(PROVIDER, openai, pieces, progress, deadline):
            yield item

    async def warm(self) -> Any:
        """Import the vendor's package (seconds) beside the event loop, and return it."""
        if self._lender is not None:
            return await self._lender.warm()
        if self._sdk is None:  # sys.modules would show a package that is half imported
            self._sdk = await asyncio.to_thread(import_module, "openai")
        return self._sdk

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def _opened(self, openai: Any) -> "AsyncOpenAI":
        if self._lender is not None:
            return self._lender._opened(openai).with_options(api_key=self._api_key)
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key,
                # Named, so that a variable of the process never sends a key elsewhere.
                base_url=self._base_url or "https://api.openai.com/v1",
                max_retries=0,
            )
        return self._client

    async def _pieces(
        self,
        client: "AsyncOpenAI",
        openai: Any,
        request: GenerationRequest,
        message: str,
        progress: Progress,
        deadline: Deadline,
    ) -> AsyncIterator[str]:
        try:
            stream = await client.chat.completions.create(
                **self._arguments(request, message), timeout=deadline.remaining_seconds()
            )
        except openai.BadRequestError as error:
            if "json_schema" in str(error) or "response_format" in str(error):
                self._without_schema.add(request.model)
                raise drafting.SchemaRefusedError from error
            raise
        try:
            async for chunk in stream:
                _note(progress, chunk)
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content
        finally:
            await stream.close()
        if progress.finish_reason is None:
            raise ConnectionError("The stream ended before the answer did.")

    def _arguments(self, request: GenerationRequest, message: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": "system", "content": prompting.SYSTEM},
                {"role": "user", "content": message},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        # OpenAI's models know the new name only, most other servers the old one only.
        limit = "max_tokens" if self._base_url else "max_completion_tokens"
        arguments[limit] = request.max_tokens
        if self._base_url or request.temperature > 0:
            arguments["temperature"] = request.temperature  # 0 is refused by reasoning models
        if request.model not in self._without_schema:
            arguments["response_format"] = _FORMAT
        return arguments


def _note(progress: Progress, chunk: Any) -> None:
    progress.response_id = chunk.id or progress.response_id
    progress.model = chunk.model or progress.model
    if chunk.choices and chunk.choices[0].finish_reason:
        progress.finish_reason = chunk.choices[0].finish_reason
        progress.cut = progress.finish_reason == "length"
    if chunk.usage is not None:
        progress.input_tokens = chunk.usage.prompt_tokens
        progress.output_tokens = chunk.usage.completion_tokens
        details = chunk.usage.prompt_tokens_details
        progress.cached_input_tokens = (details.cached_tokens or 0) if details else 0
