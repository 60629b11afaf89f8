"""Jobs, as OpenAPI describes them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

JobState = Literal["queued", "running", "succeeded", "partial", "failed", "cancelled"]


class Accepted(BaseModel):
    """The files are kept; the job reads them."""

    job_id: UUID


class FileBody(BaseModel):
    """What became of one file. `reason` starts with a code, e.g. `needs_ocr: ...`;
    `duplicate_of` names the document that has the same text and was there before.
    """

    name: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    reason: str | None = None
    document_id: str | None = None
    version: int | None = None
    status: Literal["created", "updated", "unchanged"] | None = None
    chunks: int
    duplicate_of: str | None = None
    size_bytes: int


class ProgressBody(BaseModel):
    """How far a job is."""

    files_done: int
    files_total: int
    chunks_done: int
    place_in_line: int | None
    seconds_left: float | None


class JobEntry(BaseModel):
    """A job without its files."""

    job_id: UUID
    state: JobState
    created_at: datetime
    progress: ProgressBody


class JobBody(JobEntry):
    """A job with each of its files."""

    files: list[FileBody]


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobEntry]
    next_cursor: str | None
