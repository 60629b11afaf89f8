"""Reading what mapped corpora hold: in the background, a few chunks at a time, by another process.

What is known by a chunk's id is carried over: its text never changes under it.
Must not enter: files, the database.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compliance_copilot.adapters.hot_corpus import HotCorpus
from compliance_copilot.adapters.hot_pack import reading_arrays
from compliance_copilot.adapters.pgvector_index import chunk_of
from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag.reading import reading_of
from compliance_copilot.storage.database import Row

MOST_ROWS = 50_000
"""Larger corpora are not read ahead: the reading would take minutes, and memory."""
_STEP_ROWS = 16
_FEW_ROWS = 32
_BYTES_FOR_A_BYTE = 3
Read = Callable[[Sequence[Chunk]], Awaitable[Sequence[bytes]]]
"""Returns what is to be kept of reading each chunk."""
Known = Mapping[bytes, bytes]
"""What is kept of reading chunks, by id."""


async def read_ahead(
    now: Callable[[], HotCorpus | None], known: dict[bytes, bytes], read: Read
) -> None:
    """Read all chunks of the corpus that `now` gives, into `known`.

    When it gives another meanwhile, what both hold is read once; when it gives none, this ends.
    """
    while (corpus := now()) is not None and (rows := unread(corpus, known)):
        for at in range(0, len(rows), _STEP_ROWS):
            step = rows[at : at + _STEP_ROWS]
            records = await read([corpus.chunk(row) for row in step])
            known.update(zip((corpus.raw_ids[row] for row in step), records, strict=True))
            if now() is not corpus:
                break


def topped_up(
    rows: Sequence[Row], known: dict[bytes, bytes], step: Callable[[], None]
) -> dict[bytes, bytes]:
    """Return what is known with what the rows of `load_corpus` have beyond it, when that is little.

    A small ingest then costs one file, and not a second one with the readings.
    """
    new = [row for row in rows if row["id"].bytes not in known]
    if len(new) <= _FEW_ROWS:
        for row in new:
            step()
            known[row["id"].bytes] = reading_of(chunk_of(row)).record
    return known


def expected_bytes(corpus: HotCorpus) -> int:
    """Return how many bytes readings of a whole corpus take, about."""
    return _BYTES_FOR_A_BYTE * corpus.arrays["chunk_records"].nbytes


def unread(corpus: HotCorpus, known: Known) -> list[int]:
    """Return the rows of chunks that nobody has read, neither in the file nor in `known`."""
    ids, rows = corpus.raw_ids, list(range(corpus.rows))
    if corpus.is_read_by_these_rules:
        rows = np.flatnonzero(np.diff(corpus.arrays["reading_spans"]) == 0).tolist()
    return [row for row in rows if ids[row] not in known]


def readings(corpus: HotCorpus) -> dict[bytes, bytes]:
    """Return all that is kept in the file, by the chunk's id."""
    return {i: kept for row, i in enumerate(corpus.raw_ids) if (kept := corpus.kept(row))}


def with_readings(corpus: HotCorpus, known: Known) -> dict[str, NDArray[Any]]:
    """Return the arrays of a corpus with these readings beside those that are kept."""
    kept = [known.get(i) or corpus.kept(row) for row, i in enumerate(corpus.raw_ids)]
    return {**corpus.arrays, **reading_arrays(kept)}
