"""Answers by Anthropic's messages."""

from typing import Any

from compliance_copilot.adapters import prompting
from compliance_copilot.adapters.drafting import Progress
from compliance_copilot.adapters.hosted_generator import HostedGenerator
from compliance_copilot.rag.ports import GenerationRequest

_FORMAT = {"format": {"type": "json_schema", "schema": prompting.SCHEMA}}


class AnthropicGenerator(HostedGenerator):
    """A `Generator` at Anthropic; `base_url` has no `/v1`. The present API takes no temperature."""

    provider = "anthropic"
    _client_name = "AsyncAnthropic"
    _address = "https://api.anthropic.com"
    _path = "/v1/messages"
    _schema_argument = "output_config"

    def _body(self, request: GenerationRequest, message: str) -> dict[str, Any]:
        return {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "system": prompting.system_of(request),
            "messages": [{"role": "user", "content": message}],
            "stream": True,
            **self._format(request, _FORMAT),
        }

    def _read(self, progress: Progress, event: Any) -> str | None:
        kind = event["type"]
        if kind == "message_start":
            message, used = event["message"], event["message"]["usage"]
            progress.response_id = message["id"]
            progress.model = message["model"] or progress.model
            # Anthropic counts cached tokens beside the input, the ledger counts them within it.
            progress.cached_input_tokens = used.get("cache_read_input_tokens") or 0
            written = used.get("cache_creation_input_tokens") or 0
            progress.input_tokens = used["input_tokens"] + progress.cached_input_tokens + written
        elif kind == "message_delta":
            progress.output_tokens = event["usage"]["output_tokens"]
            progress.finish_reason = event["delta"]["stop_reason"]
            progress.cut = progress.finish_reason == "max_tokens"
        elif kind == "content_block_delta" and event["delta"]["type"] == "text_delta":
            text: str = event["delta"]["text"]
            return text
        return None
