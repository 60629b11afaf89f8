"""Sources for tests: a text becomes a scored chunk at some offset of its document."""

from uuid import UUID

from compliance_copilot.core.vocabulary import Chunk, ScoredChunk


def source(
    text: str,
    *,
    document: str = "policy",
    start: int = 0,
    title: str = "Policy",
    section: str | None = None,
) -> ScoredChunk:
    number = abs(hash((document, start, text))) % 2**64
    chunk = Chunk(UUID(int=number), document, 1, 0, start, start + len(text), text, title, section)
    return ScoredChunk(chunk, 1.0)
