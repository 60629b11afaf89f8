"""What is read of a mapped corpus is kept beside it: carried over, erased, no other tenant's."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import numpy as np

from compliance_copilot.adapters.corpus_files import Arrays, CorpusFiles
from compliance_copilot.adapters.hot_corpus import HotCorpus
from compliance_copilot.adapters.hot_index import HotIndex
from compliance_copilot.adapters.hot_reading import readings, unread, with_readings
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.vocabulary import NewDocument, RetrievalMode, ScoredChunk, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.rag.answering import assembled
from compliance_copilot.rag.citations import check
from compliance_copilot.rag.reading import reading_of
from compliance_copilot.rag.selection import select
from compliance_copilot.storage.filelock import FileLock
from tests.conftest import make_customer
from tests.rag.test_hot_index import ACME, SUBJECTS, Both
from tests.rag.test_hot_index import both as both

BETA = TenantId("beta")
NEW = "# Drones\n\nDrones need the consent of the safety officer."


def answer(question: str, sources: list[ScoredChunk]) -> str:
    checked = [check(draft, sources) for draft in select(question, sources)]
    return repr((sources, checked, assembled(question, checked, sources)))


def corpus_of(files: Any, tenant_id: TenantId = ACME) -> HotCorpus:
    arrays: Arrays | None = files.latest(tenant_id)
    assert arrays is not None
    return HotCorpus(arrays)


async def stamped(both: Both) -> tuple[int, str]:
    async with both.database.transaction(ACME) as connection:
        row = await connection.fetchrow("SELECT version, stamp FROM corpus_stamp('acme')")
        return row["version"], row["stamp"]


async def marked(both: Both, **changed: Any) -> bytes:
    """Mark the first chunk's reading in the file as no text would: as addressing a model."""
    corpus = corpus_of(both.files)
    first = corpus.raw_ids[0]
    record = corpus.kept(0).replace(b'"suspicious":false', b'"suspicious":true')
    arrays = with_readings(corpus, {first: record}) | changed
    assert both.files.write(ACME, *await stamped(both), arrays)
    return first


def marks(corpus: HotCorpus) -> Iterator[bytes]:
    return (i for i, record in readings(corpus).items() if b'"suspicious":true' in record)


async def test_all_that_is_mapped_is_read_and_answers_as_the_text_does(both: Both) -> None:
    await both.warm()
    assert not unread(corpus_of(both.files), {})
    for subject in SUBJECTS:
        for question in (f"Who approves {subject}?", f"How often are {subject} tested?"):
            cold = await both.sources("cold", question, RetrievalMode.HYBRID)
            hot = await both.sources("hot", question, RetrievalMode.HYBRID)
            assert all(reading_of(source.chunk).record for source in hot)
            assert answer(question, cold) == answer(question, hot)


async def test_what_was_read_before_is_carried_over_and_only_the_new_is_read(
    both: Both, service: Service
) -> None:
    await both.warm()
    first = await marked(both)
    lock = both.files.reading(ACME)  # nobody reads ahead: few are read where the file is made
    assert lock is not None
    await service.copilot.ingest("acme", [NewDocument(NEW, "drones")])
    await both.warm()
    lock.close()
    corpus = corpus_of(both.files)
    assert not unread(corpus, {})
    assert list(marks(corpus)) == [first]


async def test_what_other_rules_have_read_is_read_anew(both: Both) -> None:
    await both.warm()
    await marked(both, reading_rules=np.zeros(16, dtype=np.uint8))
    assert len(unread(corpus_of(both.files), {})) == corpus_of(both.files).rows
    second = HotIndex(both.cold, both.database, both.files)
    await Both(both.cold, second, both.files, both.database).warm()
    corpus = corpus_of(both.files)
    assert not unread(corpus, {})
    assert not list(marks(corpus))
    await second.close()


async def test_one_worker_reads_and_the_other_takes_what_it_kept(both: Both) -> None:
    lock = both.files.reading(ACME)  # somebody else is reading
    assert lock is not None
    await both.warm()
    corpus = corpus_of(both.files)
    assert len(unread(corpus, {})) == corpus.rows
    lock.close()
    second = HotIndex(both.cold, both.database, both.files)
    await Both(both.cold, second, both.files, both.database).warm()
    assert not unread(corpus_of(both.files), {})
    before = both.hot._hot[ACME].corpus
    both.hot._hot[ACME].noted_at = 0.0
    await both.search("hot", "visitors")
    await both.hot.settled()
    assert both.hot._hot[ACME].corpus is not before
    assert not unread(both.hot._hot[ACME].corpus, {})
    await second.close()


async def test_who_waited_for_another_reader_takes_what_that_one_kept(both: Both) -> None:
    lock = both.files.reading(ACME)  # somebody else is reading
    assert lock is not None
    await both.warm()
    lock.close()
    held = both.hot._hot[ACME].corpus
    assert len(unread(held, {})) == held.rows
    second = HotIndex(both.cold, both.database, both.files)
    await Both(both.cold, second, both.files, both.database).warm()
    first = await marked(both)
    both.hot._read_on(ACME, held)
    await both.hot.settled()
    assert not unread(both.hot._hot[ACME].corpus, {})
    assert list(marks(corpus_of(both.files))) == [first], "read once for both"
    await second.close()


async def test_readings_push_no_corpus_out(both: Both, service: Service) -> None:
    lock = both.files.reading(ACME)  # nobody reads ahead
    assert lock is not None
    await both.warm()
    await warm_beta(both, service)
    lock.close()
    corpus = corpus_of(both.files)
    own = sum(len(reading_of(corpus.chunk(row)).record) for row in range(corpus.rows))
    (beta,) = both.files.folder.glob("beta/*.corpus")
    room = both.files.nbytes() + own - beta.stat().st_size // 2
    tight = HotIndex(both.cold, both.database, type(both.files)(both.files.folder, room))
    await Both(both.cold, tight, both.files, both.database).warm()
    assert beta.exists()
    assert len(unread(corpus_of(both.files), {})) == corpus.rows
    await tight.close()


async def test_an_erasure_amid_the_reading_leaves_nothing(both: Both, owner: Any) -> None:
    await both.search("hot", "begin")
    await asyncio.gather(*both.hot._loading.values())
    assert both.hot._reading
    assert await both.hot.forget(ACME) <= 1
    assert not both.hot._reading
    assert not list(both.files.folder.glob("acme/*.corpus"))
    await both.warm()
    arrays, stamp = both.files.latest(ACME), await stamped(both)
    assert arrays is not None
    await owner.execute("DELETE FROM chunks WHERE tenant_id = 'acme'")
    await owner.execute("UPDATE corpora SET version = version + 1 WHERE tenant_id = 'acme'")
    both.files.drop(ACME)
    await both.hot._write(ACME, *stamp, arrays)  # it had begun before
    assert not list(both.files.folder.glob("acme/*.corpus"))


@dataclass(frozen=True)
class WatchedFiles(CorpusFiles):
    """Files that tell when a lock is taken and when writing begins and ends, and wait for leave."""

    taken: Event = field(default_factory=Event)
    writing: Event = field(default_factory=Event)
    may_write: Event = field(default_factory=Event)
    written: Event = field(default_factory=Event)

    def building(self, tenant_id: TenantId) -> FileLock | None:
        lock = CorpusFiles.building(self, tenant_id)
        self.taken.set()
        return lock

    def write(self, *arguments: Any) -> bool:
        self.writing.set()
        self.may_write.wait(60)
        done = CorpusFiles.write(self, *arguments)
        self.written.set()
        return done


def watched(both: Both) -> tuple[HotIndex, WatchedFiles]:
    files = WatchedFiles(both.files.folder, both.files.max_bytes)
    return HotIndex(both.cold, both.database, files), files


async def test_a_lock_that_was_just_taken_is_let_go_of_when_its_work_is_cancelled(
    both: Both,
) -> None:
    for _ in range(20):
        hot, files = watched(both)
        files.may_write.set()
        hot._warm(ACME)
        while not files.taken.is_set():  # noqa: ASYNC110 - a thread may be the one that sets it
            await asyncio.sleep(0)
        await hot.close()
        lock = both.files.building(ACME)
        assert lock is not None
        lock.close()
        both.files.drop(ACME)
    await both.warm()


async def test_an_erasure_waits_for_the_thread_that_writes_and_leaves_nothing(both: Both) -> None:
    hot, files = watched(both)
    hot._warm(ACME)
    await asyncio.to_thread(files.writing.wait, 60)
    erasure = asyncio.create_task(hot.forget(ACME))
    await asyncio.wait({erasure}, timeout=0.2)
    files.may_write.set()
    await erasure
    await asyncio.to_thread(files.written.wait, 60)
    await hot.close()
    assert not list(both.files.folder.glob("acme/*.corpus"))
    await both.warm()
    assert list(both.files.folder.glob("acme/*.corpus"))


async def test_readings_hold_the_words_of_their_tenant_alone(both: Both, service: Service) -> None:
    await both.warm()
    await warm_beta(both, service)
    assert b"zorbiflex" in b"".join(readings(corpus_of(both.files, BETA)).values())
    assert b"zorbiflex" not in b"".join(readings(corpus_of(both.files)).values())


async def warm_beta(both: Both, service: Service) -> None:
    """Map the corpus of another tenant, with a word that is its own."""
    await make_customer(service, "beta")
    text = "\n\n".join(f"## {n}\n\nThe owner of zorbiflex checks room {n}." for n in range(60))
    await service.copilot.ingest("beta", [NewDocument(text, "visitors")])
    async with both.database.transaction(BETA) as connection:
        version = await connection.fetchval("SELECT version FROM corpora")
    asked = replace(await both.query("visitors"), corpus_version=version)
    await both.hot.search(BETA, asked, limit=5, deadline=Deadline.after(60))
    await both.hot.settled()
