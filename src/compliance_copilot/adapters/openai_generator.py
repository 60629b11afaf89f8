"""Answers by OpenAI's chat completions, or by any server that speaks them."""

from collections.abc import Awaitable, Callable
from typing import Any

from compliance_copilot.adapters import prompting
from compliance_copilot.adapters.drafting import Progress
from compliance_copilot.adapters.hosted_generator import HostedGenerator
from compliance_copilot.rag.ports import GenerationRequest

_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "strict": True, "schema": prompting.SCHEMA},
}


class OpenAIGenerator(HostedGenerator):
    """A `Generator` at OpenAI; `base_url` includes `/v1`."""

    provider = "openai"
    _client_name = "AsyncOpenAI"
    _address = "https://api.openai.com/v1"
    _schema_argument = "response_format"

    def _call(self, client: Any) -> Callable[..., Awaitable[Any]]:
        call: Callable[..., Awaitable[Any]] = client.chat.completions.create
        return call

    def _arguments(self, request: GenerationRequest, message: str) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": request.model,
            "messages": [
                {"role": "system", "content": prompting.system_of(request)},
                {"role": "user", "content": message},
            ],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._format(request, _FORMAT),
        }
        # OpenAI's models know the new name only, most other servers the old one only.
        limit = "max_tokens" if self._base_url else "max_completion_tokens"
        arguments[limit] = request.max_tokens
        if self._base_url or request.temperature > 0:
            arguments["temperature"] = request.temperature  # 0 is refused by reasoning models
        return arguments

    def _read(self, progress: Progress, event: Any) -> str | None:
        progress.response_id = event.id or progress.response_id
        progress.model = event.model or progress.model
        if event.usage is not None:
            progress.input_tokens = event.usage.prompt_tokens
            progress.output_tokens = event.usage.completion_tokens
            details = event.usage.prompt_tokens_details
            progress.cached_input_tokens = (details.cached_tokens or 0) if details else 0
        if not event.choices:
            return None
        choice = event.choices[0]
        if choice.finish_reason:
            progress.finish_reason = choice.finish_reason
            progress.cut = choice.finish_reason == "length"
        text: str | None = choice.delta.content
        return text
