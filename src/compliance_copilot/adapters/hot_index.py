"""Tenants in use, in mapped files: the same two lists as the SQL search, in a fraction of the time.

Wraps the index it stands before: what is not mapped at the corpus version that admission saw is
asked there, and brought here in the background, by one worker for all of them. Never stale, because
the version is part of the question; an earlier instant (`as_of`) is asked behind, too.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from uuid import UUID

from compliance_copilot.adapters.corpus_files import CorpusFiles
from compliance_copilot.adapters.hot_corpus import HotCorpus, pack
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.ports import HybridQuery, RankedLists, VectorIndex
from compliance_copilot.storage.database import Database

_STAMP = "SELECT * FROM corpus_stamp($1)"
_LOAD = "SELECT * FROM load_corpus($1)"
_LOAD_SECONDS = 60.0
_WAIT_SECONDS = 0.05
_CHECK_SECONDS = 5.0
"""So often a mapped file is noted as used, and those that are gone are let go."""
_THREAD_ROWS = 20_000
"""From here on a search takes milliseconds: it leaves the event loop."""
_THREAD_DOCUMENTS = 500
"""From here on a new filter does, too."""

LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Mapped:
    version: int
    corpus: HotCorpus
    embedder: str | None
    indexed: bool
    """There is an index of its own for dense search alone, quicker than this."""
    noted_at: float

    def serves(self, query: HybridQuery) -> bool:
        """Tell whether a question at this version is answered here, or else behind.

        What is left to the index behind is so whether or not the corpus is mapped: its bytes do
        not hang on that.
        """
        if query.embedder is not None and self.embedder not in (None, query.embedder):
            return False  # refused there, with the command that mends it
        return bool(query.terms) or query.filters is not None or not self.indexed


class HotIndex:
    """A `VectorIndex` that answers from mapped files where it can."""

    def __init__(
        self,
        cold: VectorIndex,
        database: Database,
        files: CorpusFiles,
    ) -> None:
        self._cold = cold
        self._database = database
        self._files = files
        self._hot: dict[TenantId, _Mapped] = {}
        self._loading: dict[TenantId, asyncio.Task[None]] = {}
        self._too_large: dict[TenantId, int] = {}
        self._one_load = asyncio.Semaphore(1)
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the corpora that this worker has mapped."""
        return sum(mapped.corpus.nbytes for mapped in self._hot.values())

    @property
    def mapped(self) -> int:
        """How many corpora this worker has mapped."""
        return len(self._hot)

    async def search(
        self, tenant_id: TenantId, query: HybridQuery, *, limit: int, deadline: Deadline
    ) -> RankedLists:
        """Return both lists from a mapped file, else from the index behind."""
        corpus = self._corpus(tenant_id, query)
        if corpus is None:
            return await self._cold.search(tenant_id, query, limit=limit, deadline=deadline)
        if corpus.rows >= _THREAD_ROWS or corpus.has_to_filter(query, _THREAD_DOCUMENTS):
            return await asyncio.to_thread(corpus.search, query, limit=limit)
        return corpus.search(query, limit=limit)

    async def score(
        self,
        tenant_id: TenantId,
        query: HybridQuery,
        chunk_ids: Sequence[UUID],
        *,
        limit: int,
        deadline: Deadline,
    ) -> RankedLists:
        """Return both lists over these chunks alone, from a mapped file where there is one."""
        corpus = self._corpus(tenant_id, query)
        if corpus is None:
            return await self._cold.score(
                tenant_id, query, chunk_ids, limit=limit, deadline=deadline
            )
        return corpus.score(query, chunk_ids, limit=limit)

    async def forget(self, tenant_id: TenantId) -> int:
        """Remove all files of a tenant (erasure); other workers let go within seconds.

        Returns how many there were.
        """
        self._hot.pop(tenant_id, None)
        loading = self._loading.get(tenant_id)
        if loading is not None:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
        return await asyncio.to_thread(self._files.drop, tenant_id)

    async def settled(self) -> None:
        """Wait until what is being loaded is loaded."""
        await asyncio.gather(*self._loading.values())

    async def close(self) -> None:
        """Stop loading and let go of everything; the files stay."""
        tasks = [*self._loading.values(), *([self._sweeper] if self._sweeper else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hot.clear()

    def _corpus(self, tenant_id: TenantId, query: HybridQuery) -> HotCorpus | None:
        if query.as_of is not None or query.corpus_version is None:
            return None
        mapped = self._hot.get(tenant_id)
        if mapped is None or mapped.version != query.corpus_version:
            if self._too_large.get(tenant_id) != query.corpus_version:
                self._warm(tenant_id)
            return None
        if time.monotonic() - mapped.noted_at > _CHECK_SECONDS:
            mapped.noted_at = time.monotonic()
            if not self._files.used(tenant_id, mapped.version):
                del self._hot[tenant_id]
                return None
        if mapped.corpus.dimensions != len(query.dense):
            return None  # made by another embedder: the index behind says so
        return mapped.corpus if mapped.serves(query) else None

    def _warm(self, tenant_id: TenantId) -> None:
        if self._files.max_bytes and tenant_id not in self._loading:
            # A context of its own: the tenant of the question is not this task's to inherit.
            task = asyncio.create_task(self._load(tenant_id), name="hot index", context=Context())
            self._loading[tenant_id] = task
            task.add_done_callback(lambda _: self._loading.pop(tenant_id, None))
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), context=Context())

    async def _load(self, tenant_id: TenantId) -> None:
        try:
            async with self._one_load:
                await self._bring(tenant_id)
        except (CopilotError, OSError) as error:
            reason = error.code if isinstance(error, CopilotError) else type(error).__name__
            LOG.warning("a corpus stays cold: %s", reason)

    async def _bring(self, tenant_id: TenantId) -> None:
        """Map the file of the present version; build it first where nobody has."""
        deadline = Deadline.after(_LOAD_SECONDS)
        while not deadline.passed:
            if await self._map(tenant_id, deadline):
                return
            lock = await asyncio.to_thread(self._files.building, tenant_id)
            if lock is None:  # another worker builds it
                await asyncio.sleep(_WAIT_SECONDS)
                continue
            try:
                if not await self._build(tenant_id, deadline):
                    return
            finally:
                lock.close()

    async def _map(self, tenant_id: TenantId, deadline: Deadline) -> bool:
        stamps = await self._database.call(tenant_id, _STAMP, deadline=deadline)
        if not stamps:
            return True  # nothing is known of this tenant: nothing to map
        (now,) = stamps
        version, stamp = now["version"], now["stamp"]
        arrays = await asyncio.to_thread(self._files.read, tenant_id, version, stamp)
        if arrays is None:
            return False
        self._hot[tenant_id] = _Mapped(
            version, HotCorpus(arrays), now["embedder"], now["indexed"], time.monotonic()
        )
        return True

    async def _build(self, tenant_id: TenantId, deadline: Deadline) -> bool:
        rows = await self._database.call(tenant_id, _LOAD, deadline=deadline)
        if not rows:
            return False
        arrays = await asyncio.to_thread(pack, rows)
        version, stamp = rows[0]["corpus_version"], rows[0]["stamp"]
        written = await asyncio.to_thread(self._files.write, tenant_id, version, stamp, arrays)
        if not written:
            self._too_large[tenant_id] = version
        return written

    async def _sweep(self) -> None:
        """Let go of what has lost its file: its room on the disk is free only then."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for tenant_id, mapped in list(self._hot.items()):
                if not self._files.exists(tenant_id, mapped.version):
                    self._hot.pop(tenant_id, None)
