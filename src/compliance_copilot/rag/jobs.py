"""Files that wait to be read, those under way, and what became of each.

Every row is a tenant's. A file's bytes are kept until it is finished, so that any process can go
on where another died; what is finished is not done again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.sharing import first_with
from compliance_copilot.storage import queue
from compliance_copilot.storage.database import Connection, Database, Row
from compliance_copilot.telemetry.tracing import traceparent

MOST_TRIES = 3
_BATCH_FILES = 16
_BATCH_BYTES = 2**20
_TRANSFER_BYTES = 4 * 2**20
_PART_BYTES = 2**20
_OPEN = ("queued", "running")
_WAITING = """
    SELECT count(DISTINCT queue_id) FROM ingest_files
    WHERE tenant_id = $1 AND state IN ('queued', 'running')
"""
_INSERT_JOB = "INSERT INTO ingest_jobs (tenant_id, id, effective_from) VALUES ($1, $2, $3)"
_INSERT_FILES = """
    INSERT INTO ingest_files (tenant_id, job_id, place, queue_id, name, size_bytes, sha256, state,
                              reason, finished_at)
    SELECT $1, $2, u.*, CASE WHEN u.state = 'failed' THEN now() END
    FROM unnest($3::integer[], $4::bigint[], $5::text[], $6::bigint[], $7::bytea[], $8::text[],
                $9::text[]) AS u (place, queue_id, name, size_bytes, sha256, state, reason)
"""
_INSERT_PARTS = """
    INSERT INTO ingest_uploads (tenant_id, job_id, place, part, bytes)
    SELECT $1, $2, u.* FROM unnest($3::integer[], $4::integer[], $5::bytea[]) AS u
"""
# A whole batch at first; once a process died of it, file by file, so that the innocent get through.
_BEGIN = """
    WITH open AS (
        SELECT place, tries FROM ingest_files
        WHERE tenant_id = $1 AND job_id = $2 AND queue_id = $3 AND state IN ('queued', 'running')),
    taken AS (
        SELECT place FROM open
        ORDER BY tries, place LIMIT CASE WHEN (SELECT max(tries) FROM open) > 0 THEN 1 END)
    UPDATE ingest_files f SET state = 'running', tries = f.tries + 1
    FROM taken t WHERE f.tenant_id = $1 AND f.job_id = $2 AND f.place = t.place
      AND f.state IN ('queued', 'running')
    RETURNING f.place, f.name, f.size_bytes, f.sha256, f.tries, (
        SELECT j.effective_from FROM ingest_jobs j WHERE j.tenant_id = $1 AND j.id = $2)
"""
_PUT_BACK = """
    UPDATE ingest_files SET state = 'queued', tries = tries - 1
    WHERE tenant_id = $1 AND job_id = $2 AND place = ANY ($3) AND state = 'running'
"""
_START = """
    UPDATE ingest_jobs SET started_at = coalesce(started_at, now()) WHERE tenant_id = $1 AND id = $2
"""
_PART = """
    SELECT bytes FROM ingest_uploads
    WHERE tenant_id = $1 AND job_id = $2 AND place = $3 AND part = $4
"""
_FINISH = """
    WITH done AS (
        UPDATE ingest_files f SET state = u.state, reason = u.reason, document_id = u.document_id,
               version = u.version, status = u.status, chunks = u.chunks, finished_at = now()
        FROM unnest($3::integer[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::text[],
                    $9::integer[])
             AS u (place, state, reason, document_id, version, status, chunks)
        WHERE f.tenant_id = $1 AND f.job_id = $2 AND f.place = u.place
          AND f.state IN ('queued', 'running')
        RETURNING f.place)
    DELETE FROM ingest_uploads p USING done
    WHERE p.tenant_id = $1 AND p.job_id = $2 AND p.place = done.place
"""
_CANCEL = """
    WITH stopped AS (
        UPDATE ingest_files SET state = 'cancelled', finished_at = now()
        WHERE tenant_id = $1 AND job_id = $2 AND state IN ('queued', 'running') RETURNING place),
    noted AS (
        UPDATE ingest_jobs SET cancelled_at = now()
        WHERE tenant_id = $1 AND id = $2 AND EXISTS (SELECT FROM stopped))
    DELETE FROM ingest_uploads p USING stopped
    WHERE p.tenant_id = $1 AND p.job_id = $2 AND p.place = stopped.place
"""
_JOBS = """
    SELECT j.id, j.created_at, j.started_at, j.cancelled_at, count(f.place) AS files_total,
           count(*) FILTER (WHERE f.state = 'queued') AS queued,
           count(*) FILTER (WHERE f.state = 'running') AS running,
           count(*) FILTER (WHERE f.state = 'succeeded') AS succeeded,
           coalesce(sum(f.chunks), 0) AS chunks_done, max(f.finished_at) AS last_at,
           min(f.queue_id) FILTER (WHERE f.state IN ('queued', 'running')) AS queue_id
    FROM ingest_jobs j LEFT JOIN ingest_files f ON f.tenant_id = j.tenant_id AND f.job_id = j.id
    WHERE j.tenant_id = $1 AND ($2::uuid IS NULL OR j.id = $2) AND ($3::uuid IS NULL OR j.id < $3)
    GROUP BY j.tenant_id, j.id ORDER BY j.id DESC LIMIT $4
"""
_FILES = """
    SELECT f.name, f.state, f.reason, f.document_id, f.version, f.status, f.chunks, f.size_bytes,
           v.text_hash
    FROM ingest_files f LEFT JOIN document_versions v
      ON v.tenant_id = $1 AND v.document_id = f.document_id AND v.version = f.version
    WHERE f.tenant_id = $1 AND f.job_id = $2 ORDER BY f.place
"""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that came in: where its bytes are, or why it is refused already."""

    name: str
    path: Path | None
    size_bytes: int = 0
    sha256: bytes = b""
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of a file. `duplicate_of` is not kept, for erasing moves it: it is looked up."""

    place: int
    state: str
    reason: str | None = None
    document_id: str | None = None
    version: int | None = None
    status: str | None = None
    chunks: int = 0
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file of a batch that has begun."""

    place: int
    name: str
    size_bytes: int
    sha256: bytes
    effective_from: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `place_in_line`: batches of anybody before its next one."""

    files_done: int
    files_total: int
    chunks_done: int
    place_in_line: int | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its state: queued, running, succeeded, partial, failed or cancelled."""

    job_id: UUID
    state: str
    created_at: datetime
    progress: Progress
    files: Sequence[Mapping[str, Any]] = ()


class JobStore:
    """The jobs of all tenants, one tenant at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def work_off(
        self,
        handle: Callable[[queue.Ticket], Awaitable[None]],
        *,
        at_once: int,
        stopping: asyncio.Event,
    ) -> None:
        """Handle the tickets of all tenants until `stopping` is set."""
        await queue.work_off(self._database, handle, at_once=at_once, stopping=stopping)

    async def create(
        self,
        tenant_id: TenantId,
        job_id: UUID,
        files: Sequence[NewFile],
        *,
        effective_from: datetime | None,
    ) -> None:
        """Keep the files with their bytes and put them into the line, all or nothing."""
        async with self._database.transaction(tenant_id) as connection:
            await connection.execute(_INSERT_JOB, tenant_id, job_id, effective_from)
            batches = list(_batches(files))
            ids = await self._enqueue(connection, tenant_id, job_id, len(batches))
            queue_ids = {
                place: queue_id
                for queue_id, batch in zip(ids, batches, strict=True)
                for place in batch
            }
            await connection.execute(
                _INSERT_FILES,
                tenant_id,
                job_id,
                list(range(len(files))),
                [queue_ids.get(place) for place in range(len(files))],
                [file.name for file in files],
                [file.size_bytes for file in files],
                [file.sha256 for file in files],
                ["failed" if file.refusal else "queued" for file in files],
                [file.refusal for file in files],
            )
            await _keep_bytes(connection, tenant_id, job_id, files)

    async def _enqueue(
        self, connection: Connection, tenant_id: TenantId, job_id: UUID, count: int
    ) -> list[int]:
        if not count:
            return []
        waiting = await connection.fetchval(_WAITING, tenant_id)
        ticket = queue.Ticket(tenant_id, job_id, traceparent=traceparent())
        return await queue.enqueue(connection, ticket, first_place=waiting, count=count)

    async def begin(self, ticket: queue.Ticket) -> list[WaitingFile]:
        """Return unfinished files of a batch, and count this try; those with too many are failed.

        None are left when it returns none.
        """
        while rows := await self._begin(ticket):
            worn = [row["place"] for row in rows if row["tries"] > MOST_TRIES]
            reason = f"crashed: It was tried {MOST_TRIES} times, and the service stopped each time."
            given_up = [FileOutcome(place, "failed", reason) for place in worn]
            await self.finish(ticket.tenant_id, ticket.job_id, given_up)
            if begun := [_waiting(row) for row in rows if row["place"] not in worn]:
                return sorted(begun, key=lambda file: file.place)
        return []

    async def _begin(self, ticket: queue.Ticket) -> list[Row]:
        async with self._database.transaction(ticket.tenant_id) as connection:
            key = (ticket.tenant_id, ticket.job_id)
            rows = await connection.fetch(_BEGIN, *key, ticket.queue_id)
            await connection.execute(_START, *key)
        return list(rows)

    async def put_back(self, ticket: queue.Ticket, files: Sequence[WaitingFile]) -> None:
        """Let files wait again without a try: they were not what it failed of."""
        places = [file.place for file in files]
        async with self._database.transaction(ticket.tenant_id) as connection:
            await connection.execute(_PUT_BACK, ticket.tenant_id, ticket.job_id, places)

    async def write_bytes(self, ticket: queue.Ticket, place: int, path: Path) -> bool:
        """Write a file's bytes to a path; False when they are gone: it was cancelled."""
        key, part = (ticket.tenant_id, ticket.job_id, place), 0
        with path.open("wb") as file:
            async with self._database.transaction(ticket.tenant_id) as connection:
                while (raw := await connection.fetchval(_PART, *key, part)) is not None:
                    file.write(raw)
                    part += 1
        return part > 0

    async def finish(
        self, tenant_id: TenantId, job_id: UUID, outcomes: Sequence[FileOutcome]
    ) -> None:
        """Note what became of files and let go of their bytes; finished ones stay as they are."""
        if not outcomes:
            return
        columns = [
            [getattr(outcome, name) for outcome in outcomes]
            for name in ("place", "state", "reason", "document_id", "version", "status", "chunks")
        ]
        async with self._database.transaction(tenant_id) as connection:
            await connection.execute(_FINISH, tenant_id, job_id, *columns)

    async def cancel(self, tenant_id: TenantId, job_id: UUID) -> Job:
        """Stop what is not finished; what is stays. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            await connection.execute(_CANCEL, tenant_id, job_id)
        return await self.require(tenant_id, job_id)

    async def require(self, tenant_id: TenantId, job_id: UUID) -> Job:
        """Return a job with its files. Raises NotFound."""
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(_JOBS, tenant_id, job_id, None, 1)
            if row is None:
                raise NotFound("There is no such job.", kind="job")
            files = await connection.fetch(_FILES, tenant_id, job_id)
            hashes = [file["text_hash"] for file in files if file["text_hash"]]
            first = await first_with(connection, tenant_id, hashes)
            queue_id = row["queue_id"]
            ahead = await queue.tickets_ahead(connection, queue_id) if queue_id else None
        job = _job(row)
        progress = replace(job.progress, place_in_line=ahead)
        return replace(job, progress=progress, files=[_shown(file, first) for file in files])

    async def list(
        self, tenant_id: TenantId, *, before: UUID | None = None, limit: int = 100
    ) -> list[Job]:
        """Return a page of jobs, newest first, without their files."""
        async with self._database.transaction(tenant_id) as connection:
            rows = await connection.fetch(_JOBS, tenant_id, None, before, limit)
        return [_job(row) for row in rows]


def _waiting(row: Row) -> WaitingFile:
    return WaitingFile(
        row["place"], row["name"], row["size_bytes"], row["sha256"], row["effective_from"]
    )


def _batches(files: Sequence[NewFile]) -> Iterator[list[int]]:
    """Yield places of files that are read and stored together: few, and not much."""
    batch: list[int] = []
    size = 0
    for place, file in enumerate(files):
        if file.refusal:
            continue
        if batch and (len(batch) == _BATCH_FILES or size + file.size_bytes > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += file.size_bytes
    if batch:
        yield batch


async def _keep_bytes(
    connection: Connection, tenant_id: TenantId, job_id: UUID, files: Sequence[NewFile]
) -> None:
    waiting: list[tuple[int, int, bytes]] = []
    for place, file in enumerate(files):
        for part, piece in enumerate(_parts(file)):
            waiting.append((place, part, piece))
            if sum(len(entry[2]) for entry in waiting) >= _TRANSFER_BYTES:
                await connection.execute(_INSERT_PARTS, tenant_id, job_id, *_columns(waiting))
                waiting = []
    if waiting:
        await connection.execute(_INSERT_PARTS, tenant_id, job_id, *_columns(waiting))


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _parts(file: NewFile) -> Iterator[bytes]:
    if file.path is None or file.refusal:
        return
    with file.path.open("rb") as source:
        yield source.read(_PART_BYTES)  # an empty file has one part, too
        while piece := source.read(_PART_BYTES):
            yield piece


def _job(row: Row) -> Job:
    open_files = row["queued"] + row["running"]
    done = row["files_total"] - open_files
    progress = Progress(
        files_done=done,
        files_total=row["files_total"],
        chunks_done=row["chunks_done"],
        seconds_left=_seconds_left(row, done, open_files),
    )
    return Job(row["id"], _state(row, done, open_files), row["created_at"], progress)


def _state(row: Row, done: int, open_files: int) -> str:
    if open_files:
        return "running" if row["running"] or row["started_at"] else "queued"
    if row["cancelled_at"]:
        return "cancelled"
    if row["succeeded"] == done:
        return "succeeded"
    return "partial" if row["succeeded"] else "failed"


def _seconds_left(row: Row, done: int, open_files: int) -> float | None:
    """Return the time of a finished file times those that are left; None before the first."""
    if not open_files:
        return 0.0
    if not done or row["started_at"] is None:
        return None
    elapsed: float = (utc_now() - row["started_at"]).total_seconds()
    return round(elapsed / done * open_files, 1)


def _shown(row: Row, first: Mapping[bytes, str]) -> Mapping[str, Any]:
    told = {name: value for name, value in dict(row).items() if value is not None}
    twin = first.get(told.pop("text_hash", b""))
    return told if twin in (None, row["document_id"]) else {**told, "duplicate_of": twin}
