"""How a corpus of passages becomes documents, and which passages a chunk of them belongs to.

Layout `passages`: each passage is a document; `documents`: passages of one source are put together
to the document they come from, each below its number as a heading. A chunk, or a result, counts
for the passages that it overlaps.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance_copilot.rag.hostile import clean_text

LAYOUTS = ("passages", "documents")


@dataclass(frozen=True)
class Stored:
    """What is sent: documents, and for each the first offsets of its passages with their rows."""

    documents: Sequence[Mapping[str, str]]
    starts: Mapping[str, Sequence[int]]
    rows: Mapping[str, Sequence[int]]

    def passages(self, document_id: str, start: int, end: int) -> list[int]:
        """Return the rows of the passages that a stretch of a document overlaps, in order."""
        starts, rows = self.starts[document_id], self.rows[document_id]
        first = max(0, bisect_right(starts, start) - 1)
        return [row for at, row in zip(starts[first:], rows[first:], strict=True) if at < end]


def source_of(passage: Mapping[str, Any]) -> str:
    """Return the document that a passage comes from."""
    return str(passage.get("metadata", {}).get("document_id", passage["_id"]))


def laid_out(passages: Sequence[Mapping[str, Any]], layout: str) -> Stored:
    """Return the documents of a layout; empty passages are in none."""
    texts: dict[str, list[str]] = {}
    starts: dict[str, list[int]] = {}
    rows: dict[str, list[int]] = {}
    for row, passage in enumerate(passages):
        if not passage["text"].strip():
            continue
        name = passage["_id"] if layout == "passages" else f"document-{source_of(passage)}"
        parts = texts.setdefault(name, [])
        starts.setdefault(name, []).append(sum(len(part) + 2 for part in parts))
        rows.setdefault(name, []).append(row)
        number = passage.get("metadata", {}).get("passage_id")
        heading = f"## {number}\n\n" if layout == "documents" and number else ""
        parts.append(clean_text(heading + passage["text"]).strip())  # offsets are of what is stored
    documents = [{"document_id": n, "text": "\n\n".join(parts)} for n, parts in texts.items()]
    return Stored(documents, starts, rows)
