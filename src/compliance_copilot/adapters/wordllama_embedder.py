"""The default embedder: wordllama, whose weights come inside its wheel; no download."""

import asyncio
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.core.clock import Deadline
from compliance_copilot.rag.ports import Embedded, Vectors

Counts = Sequence[int] | NDArray[np.int64]

_DIMENSIONS = 256
_NICE = 10
_INLINE_CHARACTERS = 10_000  # a question: quicker here than a thread's hand-over

_FEW_TOKENS = 60  # a question: a dict counts them before numpy has begun


class WordllamaEmbedder:
    """Static word vectors of 256 dimensions, pooled and normalised.

    A token counts by the square root of how often it occurs, not each time anew: articles and
    commas no longer drown the words that say what a text is about (`docs/retrieval.md`).
    """

    name = "wordllama-256-root"
    provider = "local"
    dimensions = _DIMENSIONS

    @cached_property
    def _model(self) -> Any:
        handlers, level = logging.root.handlers[:], logging.root.level
        import wordllama

        # Its import calls logging.basicConfig(INFO): put back what was there.
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        folder = Path(wordllama.__file__).parent
        return wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def warm(self) -> None:
        """Load the weights now (0.5-1 s) and not with the first question."""
        tokenizer = self._model.tokenizer
        # The tokenizer's threads are made by its first batch, as polite as who asks for it: they
        # work for ingests alone, since a question is read without them.
        polite = threading.Thread(target=_politely, args=(tokenizer.encode_batch, ["a", "b"]))
        polite.start()
        polite.join()

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> Embedded:
        """Return unit vectors of shape (texts, 256); a text without a known word gives zeros."""
        del deadline  # thousands of texts a second: never long under way
        if sum(map(len, texts)) <= _INLINE_CHARACTERS:
            return Embedded(self._vectors(texts))
        return Embedded(await asyncio.to_thread(self._vectors, texts))

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, _DIMENSIONS), dtype=np.float32)
        tokenizer = self._model.tokenizer
        tokenizer.no_padding()
        if len(texts) == 1:
            encoded = [tokenizer.encode(texts[0], add_special_tokens=False)]
        else:
            encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        raw = np.stack([self._pooled(one.ids) for one in encoded])
        norms = np.sqrt(np.add.reduce(raw * raw, axis=1, keepdims=True))
        norms[norms == 0] = 1
        return (raw / norms).astype(np.float32, copy=False)

    def _pooled(self, ids: Sequence[int]) -> Vectors:
        """Add the vectors of the different tokens, each by the square root of its count."""
        if not ids:
            return np.zeros(_DIMENSIONS, dtype=np.float32)
        tokens, counts = _counted(ids)
        pooled: Vectors = np.sqrt(counts).astype(np.float32) @ self._model.embedding[tokens]
        return pooled


def _counted(ids: Sequence[int]) -> tuple[Counts, Counts]:
    """Return the different tokens, ascending, and how often each occurs."""
    if len(ids) > _FEW_TOKENS:
        return np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
    counts = Counter(ids)
    tokens = sorted(counts)
    return tokens, [counts[token] for token in tokens]


def _politely(work: Callable[[list[str]], object], argument: list[str]) -> None:
    """Work in a thread that lets all others go first, where the system can tell threads apart."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    work(argument)
