"""Tenants in use, in mapped files: the same two lists as the SQL search, in a fraction of the time.

Wraps the index it stands before: what is not mapped at the corpus version that admission saw is
asked there, and brought here in the background, by one worker for all of them. Never stale, because
the version is part of the question; an earlier instant (`as_of`) is asked behind, too. What is
mapped is then read (`hot_reading.py`, `hot_reader.py`), and the readings are kept in the same file.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from uuid import UUID

from compliance_copilot.adapters.corpus_files import Arrays, CorpusFiles
from compliance_copilot.adapters.hot_corpus import HotCorpus
from compliance_copilot.adapters.hot_mapped import Mapped
from compliance_copilot.adapters.hot_pack import pack
from compliance_copilot.adapters.hot_reader import HotReader
from compliance_copilot.adapters.hot_reading import (
    MOST_ROWS,
    Known,
    expected_bytes,
    read_ahead,
    readings,
    topped_up,
    unread,
    with_readings,
)
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.threads import to_the_end
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.courtesy import Courtesy
from compliance_copilot.rag.ports import HybridQuery, RankedLists, VectorIndex
from compliance_copilot.storage.database import Database, Row

_STAMP = "SELECT * FROM corpus_stamp($1)"
_LOAD = "SELECT * FROM load_corpus($1)"
_LOAD_SECONDS = 60.0
_WAIT_SECONDS = 0.05
_CHECK_SECONDS = 5.0
"""So often a mapped file is noted as used, and those that are gone are let go."""
_AGAIN_SECONDS = 60.0
"""So long after a fault a corpus is read on, when somebody asks."""
_THREAD_ROWS = 20_000
"""From here on a search takes milliseconds: it leaves the event loop."""
_THREAD_DOCUMENTS = 500
"""From here on a new filter does, too."""

LOG = logging.getLogger(__name__)


class HotIndex:
    """A `VectorIndex` that answers from mapped files where it can."""

    def __init__(
        self,
        cold: VectorIndex,
        database: Database,
        files: CorpusFiles,
        courtesy: Courtesy | None = None,
        reader: HotReader | None = None,
    ) -> None:
        self._cold = cold
        self._database = database
        self._files = files
        self._courtesy = courtesy or Courtesy()
        self._hot: dict[TenantId, Mapped] = {}
        self._loading: dict[TenantId, asyncio.Task[None]] = {}
        self._too_large: dict[TenantId, int] = {}
        self._reading: dict[TenantId, asyncio.Task[None]] = {}
        self._one_load = asyncio.Semaphore(1)
        self._one_reading = asyncio.Semaphore(1)
        self._reader = reader or HotReader()
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the corpora that this worker has mapped."""
        return sum(mapped.corpus.nbytes for mapped in self._hot.values())

    @property
    def mapped(self) -> int:
        """How many corpora this worker has mapped."""
        return len(self._hot)

    @property
    def waiting(self) -> int:
        """How many corpora this worker still loads or reads."""
        return len(self._loading.keys() | self._reading.keys())

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

    def at_hand(self, tenant_id: TenantId) -> int | None:
        """Return the version of a corpus that is searched here in a moment, None without one."""
        mapped = self._hot.get(tenant_id)
        if mapped is None or tenant_id in self._loading or mapped.corpus.rows >= _THREAD_ROWS:
            return None  # while another is on its way here, the mapped one is of the past
        return mapped.version

    async def forget(self, tenant_id: TenantId) -> int:
        """Remove all files of a tenant (erasure); other workers let go within seconds.

        Returns how many there were.
        """
        self._hot.pop(tenant_id, None)
        for tasks in (self._loading, self._reading):
            if (task := tasks.get(tenant_id)) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return await asyncio.to_thread(self._files.drop, tenant_id)

    async def settled(self) -> None:
        """Wait until what is being loaded is loaded, and read."""
        await asyncio.gather(*self._loading.values())
        await asyncio.gather(*self._reading.values())

    async def close(self) -> None:
        """Stop loading and let go of everything; the files stay."""
        tasks = [*self._loading.values(), *self._reading.values()]
        tasks += [self._sweeper] if self._sweeper else []
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
        if not self._is_there(tenant_id, mapped):
            del self._hot[tenant_id]
            return None
        if mapped.corpus.dimensions != len(query.dense):
            return None  # made by another embedder: the index behind says so
        return mapped.corpus if mapped.serves(query) else None

    def _is_there(self, tenant_id: TenantId, mapped: Mapped) -> bool:
        """Note now and then that a file is in use, and see to what it lacks; False: it is gone."""
        if time.monotonic() - mapped.noted_at <= _CHECK_SECONDS:
            return True
        mapped.noted_at = time.monotonic()
        if not self._files.used(tenant_id, mapped.version):
            return False
        if mapped.identity != self._files.identity(tenant_id, mapped.version):
            self._warm(tenant_id)  # it has more in it now
        if mapped.read_again_at < mapped.noted_at:
            mapped.read_again_at = math.inf
            self._read_on(tenant_id, mapped.corpus)
        return True

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
            lock = self._files.building(tenant_id)
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
        identity = self._files.identity(tenant_id, version)
        arrays = await asyncio.to_thread(self._files.read, tenant_id, version, stamp)
        if arrays is None:
            return False
        corpus, noted_at = HotCorpus(arrays), time.monotonic()
        self._hot[tenant_id] = Mapped(
            version, stamp, identity, corpus, now["embedder"], now["indexed"], noted_at
        )
        self._read_on(tenant_id, corpus)
        return True

    async def _build(self, tenant_id: TenantId, deadline: Deadline) -> bool:
        rows = await self._database.call(tenant_id, _LOAD, deadline=deadline)
        if not rows:
            return False
        arrays = await asyncio.to_thread(self._packed, tenant_id, rows)
        version, stamp = rows[0]["corpus_version"], rows[0]["stamp"]
        written = await self._write(tenant_id, version, stamp, arrays)
        if not written:
            self._too_large[tenant_id] = version
            self._hot.pop(tenant_id, None)  # what is mapped is of the past
        return written

    def _packed(self, tenant_id: TenantId, rows: Sequence[Row]) -> Arrays:
        before = self._files.latest(tenant_id)
        known = readings(HotCorpus(before)) if before else {}
        return pack(rows, topped_up(rows, known, self._courtesy.step))

    async def _write(self, tenant_id: TenantId, version: int, stamp: str, arrays: Arrays) -> bool:
        """Write a file, unless its rows are gone by now: an erasure may have come between."""
        written = await to_the_end(partial(self._files.write, tenant_id, version, stamp, arrays))
        stamps = await self._database.call(
            tenant_id, _STAMP, deadline=Deadline.after(_LOAD_SECONDS)
        )
        if written and not any(now["stamp"] == stamp for now in stamps):
            self._files.path(tenant_id, version).unlink(missing_ok=True)
        return written

    def _read_on(self, tenant_id: TenantId, corpus: HotCorpus) -> None:
        if tenant_id in self._reading or corpus.rows > MOST_ROWS or not unread(corpus, {}):
            return
        if self._files.has_room(expected_bytes(corpus)):  # no reading is worth another's corpus
            task = asyncio.create_task(self._read(tenant_id), name="read ahead", context=Context())
            self._reading[tenant_id] = task
            task.add_done_callback(lambda _: self._reading.pop(tenant_id, None))

    async def _read(self, tenant_id: TenantId) -> None:
        """Read what is mapped of a tenant, and keep it in its file; one worker does, for all."""
        async with self._reader.opened(), self._one_reading:
            lock = self._files.reading(tenant_id)
            if lock is None:
                return
            try:
                await self._renew(tenant_id)  # while this one waited, another may have read it
                await self._read_and_keep(tenant_id)
            except (CopilotError, OSError) as error:
                LOG.warning("a corpus stays unread: %s", type(error).__name__)
                if (held := self._hot.get(tenant_id)) is not None:
                    held.read_again_at = time.monotonic() + _AGAIN_SECONDS
            finally:
                lock.close()

    async def _read_and_keep(self, tenant_id: TenantId) -> None:
        known: dict[bytes, bytes] = {}
        died: ChildProcessError | None = None
        try:
            await read_ahead(lambda: self._present(tenant_id), known, self._reader.read)
        except ChildProcessError as error:
            died = error  # maybe of a text: what was read before it is not read again
        if known and (corpus := self._present(tenant_id)) is not None:
            await self._keep(tenant_id, corpus, known)
        if died is not None:
            raise died

    async def _renew(self, tenant_id: TenantId) -> None:
        """Map the file anew if it has more in it than when it was mapped."""
        held = self._hot.get(tenant_id)
        if held and held.identity != self._files.identity(tenant_id, held.version):
            await self._map(tenant_id, Deadline.after(_LOAD_SECONDS))

    def _present(self, tenant_id: TenantId) -> HotCorpus | None:
        held = self._hot.get(tenant_id)
        return held.corpus if held else None

    async def _keep(self, tenant_id: TenantId, corpus: HotCorpus, known: Known) -> None:
        """Write the file of a corpus anew with its readings, if it still is the present one."""
        lock = self._files.building(tenant_id)
        if lock is None:  # a newer one is being built: it is read again
            return
        try:
            held = self._hot.get(tenant_id)
            if held is None or held.corpus is not corpus:
                return
            if self._files.identity(tenant_id, held.version) != held.identity:
                return
            arrays = await asyncio.to_thread(with_readings, corpus, known)
            await self._write(tenant_id, held.version, held.stamp, arrays)
            await self._map(tenant_id, Deadline.after(_LOAD_SECONDS))
        finally:
            lock.close()

    async def _sweep(self) -> None:
        """Let go of what has lost its file: its room on the disk is free only then."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for tenant_id, mapped in list(self._hot.items()):
                if not self._files.exists(tenant_id, mapped.version):
                    self._hot.pop(tenant_id, None)
