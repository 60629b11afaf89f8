"""Files into documents: accepted as a job, read and stored batch by batch, each file for itself.

Must not enter: vendors, SQL, HTTP.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from opentelemetry.context import Context

from compliance_copilot.core.acting import Actor, acting
from compliance_copilot.core.errors import (
    CopilotError,
    DeadlineExceeded,
    InvalidRequest,
    LimitReached,
    ModelUnavailable,
    RetrievalUnavailable,
    StoreUnavailable,
)
from compliance_copilot.core.files import Unreadable
from compliance_copilot.core.vocabulary import (
    IngestedDocument,
    NewDocument,
    Operation,
    Permit,
    Replay,
    Source,
    TenantId,
)
from compliance_copilot.orchestrator.embedding import Embedding
from compliance_copilot.orchestrator.reception import Reception
from compliance_copilot.orchestrator.rooms import NOBODY, Call, Rooms
from compliance_copilot.rag.extraction.pool import Extractor
from compliance_copilot.rag.extraction.titles import title_of
from compliance_copilot.rag.ingestion import Ingestion
from compliance_copilot.rag.jobs import FileOutcome, JobStore, NewFile, WaitingFile
from compliance_copilot.rag.quotas import Quotas
from compliance_copilot.storage.queue import PutBack, Ticket
from compliance_copilot.telemetry.tracing import links_to, span

MOST_FILES = 10_000
_LATER = (StoreUnavailable, DeadlineExceeded, ModelUnavailable, RetrievalUnavailable)
_LATER_SECONDS = 5.0
_LONGEST_ID = 255
LOG = logging.getLogger(__name__)
_Ready = tuple[int, NewDocument]
"""A file's place, and the document it became."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file to be read: its place among its kind, its name, and where its bytes are."""

    place: int
    name: str
    path: Path
    sha256: bytes
    effective_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class Filing:
    """Takes files in: for the API as jobs, for the command line at once."""

    rooms: Rooms
    reception: Reception
    embedding: Embedding
    jobs: JobStore
    extractor: Extractor

    async def accept(
        self,
        tenant_id: TenantId,
        files: Sequence[NewFile],
        *,
        effective_from: datetime | None = None,
        call: Call = NOBODY,
    ) -> UUID | Replay:
        """Keep files as a job that begins as soon as it is its turn; return the job's id.

        `effective_from`: when their documents come into force, without it as they are stored. ZIP
        files are unpacked first. Raises InvalidRequest, LimitReached, StoreUnavailable.
        """
        async with self.reception.entered(tenant_id, Operation.INGEST):
            ask = self.reception.ask(Operation.INGEST, None, call, self.embedding.for_texts([]))
            permit = await self.rooms.admission.admit(tenant_id, ask)
            if isinstance(permit, Replay):
                return permit
            async with self.reception.metered(permit) as meter:
                with TemporaryDirectory(prefix="unpacked-") as folder:
                    unpacked = await self.unpacked(files, Path(folder))
                    await self.jobs.create(
                        tenant_id, permit.request_id, unpacked, effective_from=effective_from
                    )
                reply = {"job_id": str(permit.request_id)}
                await meter.settle(self.embedding.settlement("ok", meter), reply=reply)
                return permit.request_id

    async def unpacked(self, files: Sequence[NewFile], folder: Path) -> list[NewFile]:
        """Return the files with those of ZIP archives in their place. Raises InvalidRequest."""
        found: list[NewFile] = []
        for number, file in enumerate(files):
            found += await self._members(file, folder / str(number))
            if len(found) > MOST_FILES:
                raise InvalidRequest(
                    f"At most {MOST_FILES} files at once, those in archives counted.", field="files"
                )
        return found

    async def _members(self, file: NewFile, folder: Path) -> list[NewFile]:
        if file.path is None:
            return [file]
        await asyncio.to_thread(folder.mkdir)
        try:
            members = await self.extractor.unpack(file.path, folder)
        except Unreadable as refusal:
            return [NewFile(file.name, None, file.size_bytes, file.sha256, str(refusal))]
        if members is None:
            return [file]
        if not members:
            empty = Unreadable("empty", "There is no file in the archive.")
            return [NewFile(file.name, None, file.size_bytes, file.sha256, str(empty))]
        return [
            await asyncio.to_thread(_member, f"{file.name}/{name}", entry)
            for name, entry in members
        ]

    async def work_off(self, ticket: Ticket) -> None:
        """Read and store one batch of a job. Raises PutBack when it has to be done later."""
        try:
            while files := await self.jobs.begin(ticket):
                asked = links_to(ticket.traceparent)
                with span("job", {"files": len(files)}, parent=Context(), links=asked):
                    await self._work_off_or_fail(ticket, files)
        except _LATER as error:
            LOG.warning("a batch is put off: %s", error.code)
            raise PutBack(_LATER_SECONDS) from error
        except Exception as error:
            LOG.exception("a batch broke")
            raise PutBack(_LATER_SECONDS) from error

    async def _work_off_or_fail(self, ticket: Ticket, files: Sequence[WaitingFile]) -> None:
        try:
            await self._work_off(ticket, files)
        except (*_LATER, asyncio.CancelledError):  # something is away, or this process leaves
            await asyncio.shield(self.jobs.put_back(ticket, files))
            raise
        except CopilotError as error:
            reason = f"{error.code}: {error.detail}"
            outcomes = [FileOutcome(file.place, "failed", reason) for file in files]
            await self.jobs.finish(ticket.tenant_id, ticket.job_id, outcomes)

    async def _work_off(self, ticket: Ticket, files: Sequence[WaitingFile]) -> None:
        with acting(Actor(f"job:{ticket.job_id}")), TemporaryDirectory(prefix="job-") as folder:
            sources = []
            for file in files:
                path = Path(folder) / str(file.place)
                if await self.jobs.write_bytes(ticket, file.place, path):
                    sources.append(
                        FileSource(file.place, file.name, path, file.sha256, file.effective_from)
                    )
            outcomes = await self.take_in(
                ticket.tenant_id, sources, call=Call(request_id=ticket.job_id), continues=True
            )
            await self.jobs.finish(ticket.tenant_id, ticket.job_id, outcomes)

    async def take_in(
        self,
        tenant_id: TenantId,
        sources: Sequence[FileSource],
        *,
        call: Call = NOBODY,
        continues: bool = False,
    ) -> list[FileOutcome]:
        """Read files and store their texts; each file succeeds or fails for itself.

        `continues`: a further batch of the request that `call` names; it is not counted again.
        Raises what admission raises, StoreUnavailable, ModelUnavailable, DeadlineExceeded.
        """
        async with self.reception.entered(tenant_id, Operation.INGEST):
            read = await asyncio.gather(*(self._read(source) for source in sources))
            outcomes = [entry for entry in read if isinstance(entry, FileOutcome)]
            ready = [entry for entry in read if not isinstance(entry, FileOutcome)]
            ready = _without_twins(ready, outcomes)
            if ready:
                outcomes += await self._admit_and_store(tenant_id, ready, call, continues=continues)
            return outcomes

    async def _admit_and_store(
        self, tenant_id: TenantId, ready: Sequence[_Ready], call: Call, *, continues: bool
    ) -> list[FileOutcome]:
        plan = self.embedding.for_texts([document.text for _, document in ready])
        ask = self.reception.ask(Operation.INGEST, None, call, plan)
        permit = await self.rooms.admission.admit(tenant_id, replace(ask, continues=continues))
        if isinstance(permit, Replay):
            raise InvalidRequest("A batch has no Idempotency-Key.", field="Idempotency-Key")
        async with self.reception.metered(permit) as meter:
            stored = await self._store(permit, self.embedding.ingestion(meter), ready)
            # Only a request's first attempt counts as one that succeeded.
            outcome = "filed" if continues else "ok"
            await meter.settle(self.embedding.settlement(outcome, meter))
            return stored

    async def _read(self, source: FileSource) -> _Ready | FileOutcome:
        try:
            extracted = await self.extractor.extract(source.path)
        except Unreadable as refusal:
            return FileOutcome(source.place, "failed", str(refusal))
        return source.place, NewDocument(
            extracted.text,
            document_id_of(source.name),
            title_of(source.name, extracted),
            metadata={"source": source.name, "media_type": extracted.media_type},
            effective_from=source.effective_from,
            sections=extracted.sections,
            source=Source(source.name, source.sha256),
        )

    async def _store(
        self, permit: Permit, ingestion: Ingestion, ready: Sequence[_Ready]
    ) -> list[FileOutcome]:
        """Store together what can be; when that is refused, each half for itself."""
        try:
            stored = await ingestion.ingest(
                permit.tenant_id,
                [document for _, document in ready],
                quotas=Quotas(permit.limits.max_documents, permit.limits.max_bytes),
                deadline=permit.deadline,
            )
        except (InvalidRequest, LimitReached) as refusal:
            if len(ready) == 1:
                reason = f"{refusal.code}: {refusal.detail}"
                return [FileOutcome(ready[0][0], "failed", reason)]
            half = len(ready) // 2
            first = await self._store(permit, ingestion, ready[:half])
            return first + await self._store(permit, ingestion, ready[half:])
        return [_outcome(place, done) for (place, _), done in zip(ready, stored, strict=True)]


def document_id_of(name: str) -> str:
    """Return the document's id for a file's path: ':' for '/', what is not printable left out."""
    plain = "".join(c for c in name.replace("/", ":") if c.isprintable())
    if plain and len(plain) <= _LONGEST_ID:
        return plain
    return f"file-{sha256(name.encode(errors='replace')).hexdigest()[:24]}"


def _member(name: str, entry: Path | Unreadable) -> NewFile:
    if isinstance(entry, Unreadable):
        return NewFile(name, None, refusal=str(entry))
    content = entry.read_bytes()
    return NewFile(name, entry, len(content), sha256(content).digest())


def _without_twins(ready: Sequence[_Ready], outcomes: list[FileOutcome]) -> list[_Ready]:
    """Leave out files whose id came before in the batch; note why."""
    seen: set[str | None] = set()
    kept = []
    for place, document in ready:
        if document.document_id in seen:
            words = "conflict: Another file of this batch has the same name."
            outcomes.append(FileOutcome(place, "failed", words))
            continue
        seen.add(document.document_id)
        kept.append((place, document))
    return kept


def _outcome(place: int, done: IngestedDocument) -> FileOutcome:
    return FileOutcome(
        place,
        "succeeded",
        None,
        done.document_id,
        done.version,
        done.status,
        done.chunks,
        done.duplicate_of,
    )
