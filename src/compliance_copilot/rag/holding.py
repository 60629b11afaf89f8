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
        flags = [reading_of(source.chunk).suspicious for source in found.sources]
        if not any(flags):
            return found
        if not hold:
            sources = [
                replace(source, suspicious=True) if flag else source
                for source, flag in zip(found.sources, flags, strict=True)
            ]
            return replace(found, sources=sources)
        kept = [n for n, flag in enumerate(flags) if not flag]
        told = [found.explained[n] for n in kept] if found.explained else ()
        clean = [found.sources[n] for n in kept]
        return replace(found, sources=clean, explained=told, held=len(flags) - len(clean))
