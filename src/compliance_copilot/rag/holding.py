"""Sources that address a model: flagged for the reader, held back where the tenant wants it.

A flag is a hint and no wall: patterns know forms, not intentions. What a document cannot do holds
whatever it says (`citations.py`, `hostile.py`). Must not enter: answers, storage.
"""

from dataclasses import replace

from compliance_copilot.rag.reading import reading_of
from compliance_copilot.rag.retrieval import Retrieved


class Watch:
    """Looks at sources before anybody else does."""

    def look(self, found: Retrieved, *, hold: bool) -> Retrieved:
        """Return what was found with its flags; with `hold`, the flagged sources are taken out."""
        sources = [
            replace(source, suspicious=True) if reading_of(source.chunk).suspicious else source
            for source in found.sources
        ]
        if not hold:
            return replace(found, sources=sources)
        kept = [n for n, source in enumerate(sources) if not source.suspicious]
        told = [found.explained[n] for n in kept] if found.explained else ()
        clean = [sources[n] for n in kept]
        return replace(found, sources=clean, explained=told, held=len(sources) - len(clean))
