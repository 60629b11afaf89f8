"""`POST /ingest/files` and `/jobs`: files come in at once and are read when it is their turn."""

from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from compliance_copilot.core.errors import NotFound
from compliance_copilot.core.vocabulary import Operation, Replay, Scope
from compliance_copilot.gateway.admitting import call_of, claim_with, replayed, working
from compliance_copilot.gateway.authentication import DocumentWriter, UploadCaller
from compliance_copilot.gateway.documentation import documented, with_files
from compliance_copilot.gateway.job_schemas import Accepted, JobBody, JobList
from compliance_copilot.gateway.reply_schemas import Skipped
from compliance_copilot.gateway.replying import Cursor, Limit, id_of, json_reply, page
from compliance_copilot.gateway.state import service_of
from compliance_copilot.gateway.uploads import Upload, uploaded
from compliance_copilot.rag.jobs import Job

router = APIRouter(tags=["documents"])
JobId = Annotated[str, Path(description="As `POST /ingest/files` gave it.")]


@router.post(
    "/ingest/files",
    summary="Store files: PDF, Office, HTML, Markdown, text, CSV, e-mail, or ZIP of these",
    **with_files(
        documented(
            Accepted | Skipped,
            status=202,
            scopes=[Scope.INGEST],
            errors=(400, 404, 408, 409, 410, 413, 415, 422, 429, 504),
            idempotent=True,
        )
    ),
)
async def ingest_files(request: Request, caller: UploadCaller) -> Response:
    """Take files in as a job; `GET /jobs/{job_id}` tells what becomes of each."""
    with working(request, caller, Operation.INGEST, None) as service:
        async with uploaded(request) as upload:
            call = call_of(request, caller, claim_with(request, _digest(request, upload)))
            job_id = await service.filing.accept(
                caller.tenant_id,
                upload.files,
                effective_from=upload.fields.effective_from,
                call=call,
            )
    if isinstance(job_id, Replay):
        return replayed(job_id, status=202)
    return json_reply({"job_id": job_id}, status=202)


@router.get(
    "/jobs",
    summary="List jobs, newest first",
    **documented(JobList, scopes=[Scope.INGEST], errors=(422, 504)),
)
async def list_jobs(
    request: Request, caller: DocumentWriter, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """Return the tenant's jobs without their files."""
    after = id_of(cursor)
    before = None if after is None else _id_of(after)
    jobs = service_of(request).filing.jobs
    found = await jobs.list(caller.tenant_id, before=before, limit=limit + 1)
    bodies = [{name: v for name, v in _body(job).items() if name != "files"} for job in found]
    return json_reply(page("jobs", bodies, limit, [str(job.job_id) for job in found]))


@router.get(
    "/jobs/{job_id}",
    summary="Tell how far a job is, and what became of each file",
    **documented(JobBody, scopes=[Scope.INGEST], errors=(404, 504)),
)
async def read_job(request: Request, caller: DocumentWriter, job_id: JobId) -> Response:
    """Return one job."""
    jobs = service_of(request).filing.jobs
    return json_reply(_body(await jobs.require(caller.tenant_id, _id_of(job_id))))


@router.post(
    "/jobs/{job_id}/cancel",
    summary="Stop a job; what is stored stays",
    **documented(JobBody, scopes=[Scope.INGEST], errors=(404, 409, 504)),
)
async def cancel_job(request: Request, caller: DocumentWriter, job_id: JobId) -> Response:
    """Cancel the files that are not finished."""
    jobs = service_of(request).filing.jobs
    return json_reply(_body(await jobs.cancel(caller.tenant_id, _id_of(job_id))))


def _id_of(job_id: str) -> UUID:
    try:
        return UUID(job_id)
    except ValueError:
        raise NotFound("There is no such job.", kind="job") from None


def _body(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "state": job.state,
        "created_at": job.created_at,
        "files": job.files,
        "progress": job.progress,
    }


def _digest(request: Request, upload: Upload) -> bytes:
    """Return what two equal uploads share: the names and contents of their files, in order, and
    the fields that are given.
    """
    files = [(file.name, file.sha256.hex()) for file in upload.files]
    fields = upload.fields.model_dump(exclude_none=True)
    given = [request.scope["path"], files, *([fields] if fields else [])]
    return sha256(orjson.dumps(given)).digest()
