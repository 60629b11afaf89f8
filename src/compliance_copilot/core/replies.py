"""Replies as JSON objects: the fields of the HTTP contract, also kept for Idempotency-Keys."""

from typing import Any

from compliance_copilot.core.vocabulary import (
    Citation,
    IngestReply,
    QueryReply,
    ReplyMetadata,
    ScoredChunk,
    SearchReply,
)


def query_json(reply: QueryReply) -> dict[str, Any]:
    """Return the body of a `/query` reply."""
    return {
        "answer": reply.answer,
        "outcome": reply.outcome.value,
        "sources": [source_json(n, source) for n, source in enumerate(reply.sources)],
        "citations": [citation_json(citation) for citation in reply.citations],
        "metadata": metadata_json(reply.metadata),
    }


def search_json(reply: SearchReply) -> dict[str, Any]:
    """Return the body of a `/search` reply."""
    return {
        "results": [source_json(n, source) for n, source in enumerate(reply.results)],
        "metadata": metadata_json(reply.metadata),
    }


def ingest_json(reply: IngestReply) -> dict[str, Any]:
    """Return the body of an `/ingest` reply."""
    return {
        "tenant_id": reply.tenant_id,
        "request_id": str(reply.request_id),
        "documents": [
            {
                "document_id": document.document_id,
                "version": document.version,
                "status": document.status,
                "chunks": document.chunks,
            }
            for document in reply.documents
        ],
        "chunks_indexed": reply.chunks_indexed,
    }


def source_json(number: int, source: ScoredChunk) -> dict[str, Any]:
    """Return one source; `id` is its place in the list, to which citations refer."""
    chunk = source.chunk
    return {
        "id": number,
        "score": round(source.score, 6),
        "document_id": chunk.document_id,
        "version": chunk.version,
        "title": chunk.title,
        "section": chunk.section,
        "page": chunk.page,
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "metadata": dict(chunk.metadata),
    }


def citation_json(citation: Citation) -> dict[str, Any]:
    """Return one checked quote."""
    return {
        "marker": citation.marker,
        "source": citation.source,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "verified": citation.verified,
    }


def metadata_json(metadata: ReplyMetadata) -> dict[str, Any]:
    """Return how a reply came about."""
    return {
        "tenant_id": metadata.tenant_id,
        "request_id": str(metadata.request_id),
        "model": metadata.model,
        "provider_model": metadata.provider_model,
        "tokens_used": metadata.tokens_used,
        "input_tokens": metadata.input_tokens,
        "output_tokens": metadata.output_tokens,
        "cost_usd": metadata.cost_usd,
        "latency_ms": round(metadata.latency_ms, 3),
        "retrieval_mode": metadata.retrieval_mode.value,
        "cached": metadata.cached,
        "fallback": None if metadata.fallback is None else dict(metadata.fallback),
        "steps": [dict(step) for step in metadata.steps],
        "unsupported_sentences": metadata.unsupported_sentences,
    }
