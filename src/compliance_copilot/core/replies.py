"""Replies in the JSON form of the HTTP contract: what is sent, and what is kept for repeats.

One place for both, so that a repeated `Idempotency-Key` gives the first reply once more.
Values may be datetimes, UUIDs and enums: the JSON writer knows them.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import orjson

from compliance_copilot.core.vocabulary import (
    Chunk,
    Citation,
    IngestedDocument,
    IngestReply,
    QueryReply,
    ReplyMetadata,
    ScoredChunk,
    SearchReply,
    UsageSummary,
)

MICRO = 1_000_000


def query_body(reply: QueryReply) -> dict[str, Any]:
    """Return the body of a `/query` reply."""
    return {
        "answer": reply.answer,
        "outcome": reply.outcome,
        "sources": [source_body(index, scored) for index, scored in enumerate(reply.sources)],
        "citations": [citation_body(citation) for citation in reply.citations],
        "content_hash": content_hash(reply),
        "metadata": _metadata(reply.metadata),
    }


def content_hash(reply: QueryReply) -> str:
    """Return the SHA-256 of what a reply says: anybody can compute it again from the reply.

    Of the UTF-8 text of a JSON array without spaces: answer, outcome, per source
    `[document_id, version, start, end, text]`, per citation `[marker, source, start, end, quote]`.
    """
    said = [
        reply.answer,
        reply.outcome,
        [[c.document_id, c.version, c.start, c.end, c.text] for c in map(_chunk, reply.sources)],
        [[c.marker, c.source, c.start, c.end, c.quote] for c in reply.citations],
    ]
    return sha256(_written(said)).hexdigest()


def _written(said: list[Any]) -> bytes:
    """Return strings and whole numbers in lists as JSON, in the same bytes by either writer."""
    try:
        return orjson.dumps(said)
    except orjson.JSONEncodeError:  # half a character, which only the slower one writes
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")


def documents_of(body: Mapping[str, Any]) -> list[str]:
    """Return the documents that a reply's body shows a stretch of."""
    return sorted({source["document_id"] for source in body.get("sources", ())})


def _chunk(scored: ScoredChunk) -> Chunk:
    return scored.chunk


def search_body(reply: SearchReply) -> dict[str, Any]:
    """Return the body of a `/search` reply."""
    results = [source_body(index, scored) for index, scored in enumerate(reply.results)]
    if reply.explained:
        pairs = zip(results, reply.explained, strict=True)
        results = [{**source, "explain": told} for source, told in pairs]
    return {"results": results, "metadata": _metadata(reply.metadata)}


def ingest_body(reply: IngestReply) -> dict[str, Any]:
    """Return the body of an `/ingest` reply."""
    return {
        "tenant_id": reply.tenant_id,
        "documents": [_document(document) for document in reply.documents],
        "chunks_indexed": reply.chunks_indexed,
        "metadata": {"tenant_id": reply.tenant_id, "request_id": reply.request_id},
    }


def usage_body(summary: UsageSummary) -> dict[str, Any]:
    """Return the body of a `/metrics/{tenant_id}` reply; money in USD beside the micro-USD."""
    requests = summary.total_requests
    return {
        "tenant_id": summary.tenant_id,
        "time_window_hours": summary.time_window_hours,
        "total_queries": summary.total_queries,
        "successful_queries": summary.successful_queries,
        "avg_latency_ms": summary.avg_latency_ms,
        "costs": {
            "total_tokens": summary.input_tokens + summary.output_tokens,
            "input_tokens": summary.input_tokens,
            "output_tokens": summary.output_tokens,
            "estimated_llm_cost": summary.cost_micro_usd / MICRO,
            "cost_micro_usd": summary.cost_micro_usd,
            "total_requests": requests,
            "success_rate": summary.successful_requests / requests if requests else 0.0,
        },
        "cache_hits": summary.cache_hits,
        "feedback": {"helpful": summary.helpful_answers, "wrong": summary.wrong_answers},
        "unpriced_events": summary.unpriced_events,
        "estimated_events": summary.estimated_events,
        "open_events": summary.open_events,
    }


def source_body(index: int, scored: ScoredChunk) -> Mapping[str, Any]:
    """Return a source as a reply shows it."""
    chunk = scored.chunk
    return {
        "id": index,
        "score": scored.score,
        "document_id": chunk.document_id,
        "version": chunk.version,
        "title": chunk.title,
        "section": chunk.section,
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "suspicious": scored.suspicious,
        "metadata": chunk.metadata,
    }


def citation_body(citation: Citation) -> Mapping[str, Any]:
    """Return a citation as a reply shows it."""
    return {
        "marker": citation.marker,
        "source": citation.source,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "verified": citation.verified,
    }


def _document(document: IngestedDocument) -> Mapping[str, Any]:
    return {
        "document_id": document.document_id,
        "version": document.version,
        "status": document.status,
        "chunks": document.chunks,
        "in_force": document.in_force,
        "duplicate_of": document.duplicate_of,
    }


def _metadata(metadata: ReplyMetadata) -> Mapping[str, Any]:
    return {
        "tenant_id": metadata.tenant_id,
        "request_id": metadata.request_id,
        "model": metadata.model,
        "provider_model": metadata.provider_model,
        "tokens_used": metadata.tokens_used,
        "input_tokens": metadata.input_tokens,
        "output_tokens": metadata.output_tokens,
        "cost_usd": metadata.cost_usd,
        "latency_ms": metadata.latency_ms,
        "retrieval_mode": metadata.retrieval_mode,
        "cached": metadata.cached,
        "fallback": metadata.fallback,
        "steps": list(metadata.steps),
        "unsupported_sentences": metadata.unsupported_sentences,
        "held_sources": metadata.held_sources,
        "standalone_question": metadata.standalone_question,
    }
