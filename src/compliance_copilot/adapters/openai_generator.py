"""Answers by OpenAI's chat completions, or by any server that speaks them."""

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
    _path = "/chat/completions"
    _schema_argument = "response_format"

    def _body(self, request: GenerationRequest, message: str) -> dict[str, Any]:
        body: dict[str, Any] = {
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
        body[limit] = request.max_tokens
        if self._base_url or request.temperature > 0:
            body["temperature"] = request.temperature  # 0 is refused by reasoning models
        return body

    def _read(self, progress: Progress, event: Any) -> str | None:
        progress.response_id = event.get("id") or progress.response_id
        progress.model = event.get("model") or progress.model
        if (used := event.get("usage")) is not None:
            progress.input_tokens = used["prompt_tokens"]
            progress.output_tokens = used["completion_tokens"]
            details = used.get("prompt_tokens_details") or {}
            progress.cached_input_tokens = details.get("cached_tokens") or 0
        if not event.get("choices"):
            return None
        choice = event["choices"][0]
        if choice.get("finish_reason"):
            progress.finish_reason = choice["finish_reason"]
            progress.cut = progress.finish_reason == "length"
        text: str | None = choice["delta"].get("content")
        return text
