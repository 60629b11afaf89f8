"""What the spans of embedding and generation say, in the words of OpenTelemetry's `gen_ai.*`.

Texts only when the operator has switched the content of traces on.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd
from compliance_copilot.rag.ports import Embedder, GenerationRequest
from compliance_copilot.telemetry import metrics, requests
from compliance_copilot.telemetry.tracing import begun, content_is_on, fail, is_on, span

LOCAL = "local"


def embedding_span(embedder: Embedder) -> AbstractContextManager[Span]:
    """Return the span around a call of an embedder."""
    if not is_on():
        return span("embed")
    return span(
        "embed",
        {
            gen_ai.GEN_AI_OPERATION_NAME: "embeddings",
            gen_ai.GEN_AI_PROVIDER_NAME: embedder.provider,
            gen_ai.GEN_AI_REQUEST_MODEL: embedder.name,
        },
        kind=SpanKind.INTERNAL if embedder.provider == LOCAL else SpanKind.CLIENT,
    )


class GenerationSpan:
    """One call of a generator: begun before it, ended once with how it went.

    It is not made the current span, so a stream may be read by another task than began it.
    """

    def __init__(self, provider: str, model: str, request: GenerationRequest) -> None:
        self._provider, self._model = provider, model
        self._began = time.perf_counter()
        self._span = begun(
            f"generate {model}",
            _asked(provider, model, request),
            kind=SpanKind.INTERNAL if provider == LOCAL else SpanKind.CLIENT,
        )

    def ended(
        self,
        outcome: str,
        end: GenerationEnd | None = None,
        sentences: Sequence[DraftSentence] = (),
    ) -> None:
        """End the span: `ok`, or the word for the failure."""
        seconds = time.perf_counter() - self._began
        metrics.GENERATION.labels(self._provider, self._model).observe(seconds)
        if self._provider != LOCAL:
            requests.note_model_seconds(seconds)
        if self._span.is_recording():
            self._span.set_attributes(_answered(end, sentences))
            if outcome != "ok":
                fail(self._span, outcome)
        self._span.end()


def count_answer(sentences: int, unsupported: int, fallback: Mapping[str, Any] | None) -> None:
    """Count an answer's sentences, and the fallback that it is, by words of ours alone."""
    metrics.SENTENCES.labels("supported").inc(sentences - unsupported)
    metrics.SENTENCES.labels("unsupported").inc(unsupported)
    if fallback is not None:
        reason = str(fallback["reason"])
        reason = "no_key" if reason.endswith("is not set") else reason
        metrics.FALLBACKS.labels(fallback["requested"], fallback["answered"], reason).inc()


def _asked(provider: str, model: str, request: GenerationRequest) -> dict[str, AttributeValue]:
    if not is_on():
        return {}
    told: dict[str, AttributeValue] = {
        gen_ai.GEN_AI_OPERATION_NAME: "chat",
        gen_ai.GEN_AI_PROVIDER_NAME: provider,
        gen_ai.GEN_AI_REQUEST_MODEL: model,
        gen_ai.GEN_AI_REQUEST_MAX_TOKENS: request.max_tokens,
        gen_ai.GEN_AI_REQUEST_TEMPERATURE: request.temperature,
    }
    if content_is_on():
        told[gen_ai.GEN_AI_INPUT_MESSAGES] = _message("user", request.question)
    return told


def _answered(
    end: GenerationEnd | None, sentences: Sequence[DraftSentence]
) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {}
    if end is not None:
        told[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] = end.usage.input_tokens
        told[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] = end.usage.output_tokens
        if end.provider_model:
            told[gen_ai.GEN_AI_RESPONSE_MODEL] = end.provider_model
        if end.response_id:
            told[gen_ai.GEN_AI_RESPONSE_ID] = end.response_id
    if content_is_on() and sentences:
        text = " ".join(sentence.text for sentence in sentences)
        told[gen_ai.GEN_AI_OUTPUT_MESSAGES] = _message("assistant", text)
    return told


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])
