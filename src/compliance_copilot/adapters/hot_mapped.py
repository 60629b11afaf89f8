"""A corpus as a worker has it: mapped, at its version."""

import math
from dataclasses import dataclass

from compliance_copilot.adapters.hot_corpus import HotCorpus
from compliance_copilot.rag.ports import HybridQuery


@dataclass(slots=True)
class Mapped:
    """A mapped file and what it stands for."""

    version: int
    stamp: str
    identity: int
    """Of the file: another one when it was written anew."""
    corpus: HotCorpus
    embedder: str | None
    indexed: bool
    """There is an index of its own for dense search alone, quicker than this."""
    noted_at: float
    read_again_at: float = math.inf
    """When it is read on after a fault, if somebody asks."""

    def serves(self, query: HybridQuery) -> bool:
        """Tell whether a question at this version is answered here, or else behind.

        What is left to the index behind is so whether or not the corpus is mapped: its bytes do
        not hang on that.
        """
        if query.embedder is not None and self.embedder not in (None, query.embedder):
            return False  # refused there, with the command that mends it
        return bool(query.terms) or query.filters is not None or not self.indexed
