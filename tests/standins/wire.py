"""The two vendors' wire formats: a reply as one body, or as server-sent events."""

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.standins.model import tokens, vector

PIECE = 12


@dataclass(frozen=True)
class Said:
    """A model's reply with the tokens that are charged for it."""

    id: str
    model: str
    text: str
    input_tokens: int
    output_tokens: int
    finished: bool


def said(request_id: str, body: dict, text: str) -> Said:
    """Return the reply to a body, cut at its token limit. Both vendors' field names are known."""
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or 10**9
    finished = tokens(text) <= limit
    text = text if finished else text.encode()[: limit * 4].decode(errors="ignore")
    prompt = prompt_of(body)
    return Said(request_id, body.get("model", "?"), text, tokens(prompt), tokens(text), finished)


def prompt_of(body: dict) -> str:
    """Return all text of a request: system and messages."""
    parts = [body.get("system", "")] + [message["content"] for message in body.get("messages", [])]
    return "\n".join(
        part if isinstance(part, str) else "\n".join(block.get("text", "") for block in part)
        for part in parts
    )


def _pieces(text: str) -> Iterator[str]:
    return (text[n : n + PIECE] for n in range(0, len(text), PIECE))


def openai_body(reply: Said) -> dict:
    return {
        "id": reply.id,
        "object": "chat.completion",
        "created": 1_770_000_000,
        "model": reply.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": "stop" if reply.finished else "length",
            }
        ],
        "usage": _openai_usage(reply),
    }


def _openai_usage(reply: Said) -> dict:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
    }


def openai_events(reply: Said, *, usage: bool) -> Iterator[str]:
    head = {
        "id": reply.id,
        "object": "chat.completion.chunk",
        "created": 1_770_000_000,
        "model": reply.model,
    }

    def event(delta: dict, finish: str | None = None) -> str:
        chunk = {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        return f"data: {json.dumps(chunk)}\n\n"

    yield event({"role": "assistant", "content": ""})
    for piece in _pieces(reply.text):
        yield event({"content": piece})
    yield event({}, "stop" if reply.finished else "length")
    if usage:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': _openai_usage(reply)})}\n\n"
    yield "data: [DONE]\n\n"


def anthropic_body(reply: Said) -> dict:
    return {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": "end_turn" if reply.finished else "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
    }


def anthropic_events(reply: Said) -> Iterator[str]:
    def event(kind: str, **fields: object) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    begun = {**anthropic_body(reply), "content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": reply.input_tokens, "output_tokens": 1}
    yield event("message_start", message=begun)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in _pieces(reply.text):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    stop = "end_turn" if reply.finished else "max_tokens"
    yield event(
        "message_delta",
        delta={"stop_reason": stop, "stop_sequence": None},
        usage={"output_tokens": reply.output_tokens},
    )
    yield event("message_stop")


def embeddings_body(body: dict) -> dict:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    dimensions = body.get("dimensions") or 1536

    def coded(text: str) -> object:
        values = vector(text, dimensions)
        if body.get("encoding_format") != "base64":
            return values
        return base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()

    used = sum(tokens(text) for text in texts)
    return {
        "object": "list",
        "model": body.get("model"),
        "data": [
            {"object": "embedding", "index": n, "embedding": coded(text)}
            for n, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }
