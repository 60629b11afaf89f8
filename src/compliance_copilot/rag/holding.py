"""Sources that address a model: flagged for the reader, held back where the tenant wants it.

A flag is a hint and no wall: patterns know forms, not intentions. What a document cannot do holds
whatever it says (`citations.py`, `hostile.py`). Must not enter: answers, storage.
"""

from collections import OrderedDict
from dataclasses import replace
from uuid import UUID

from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag.retrieval import Retrieved
from compliance_copilot.rag.suspicion import is_suspicious

_MOST_REMEMBERED = 50_000


class Watch:
    """Looks at sources before anybody else does; remembers verdicts, never texts."""

    def __init__(self) -> None:
        self._seen: OrderedDict[UUID, bool] = OrderedDict()

    def look(self, found: Retrieved, *, hold: bool) -> Retrieved:
        """Return what was found with its flags; with `hold`, the flagged sources are taken out."""
        sources = [
            replace(source, suspicious=True) if self._addresses(source.chunk) else source
            for source in found.sources
        ]
        if not hold:
            return replace(found, sources=sources)
        kept = [n for n, source in enumerate(sources) if not source.suspicious]
        told = [found.explained[n] for n in kept] if found.explained else ()
        clean = [sources[n] for n in kept]
        return replace(found, sources=clean, explained=told, held=len(sources) - len(clean))

    def _addresses(self, chunk: Chunk) -> bool:
        verdict = self._seen.get(chunk.id)
        if verdict is None:
            headings = " ".join(part for part in (chunk.title, chunk.section) if part)
            verdict = is_suspicious(chunk.text) or is_suspicious(headings)
            self._seen[chunk.id] = verdict  # a chunk's text never changes under its id
            if len(self._seen) > _MOST_REMEMBERED:
                self._seen.popitem(last=False)
        return verdict
