"""Reading uploads: streamed to disk within bounds, and gone when the request is over.

A body that is too large, too slow, cut half way or no form at all leaves nothing behind.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from compliance_copilot.core.errors import InvalidRequest, UnsupportedMedia
from compliance_copilot.gateway.bodies import checked, too_large
from compliance_copilot.gateway.problems import MalformedRequest, RequestTimeout
from compliance_copilot.gateway.schemas import UploadFields
from compliance_copilot.rag.jobs import NewFile

LARGEST_UPLOAD_BYTES = 100 * 2**20
MOST_UPLOADED_FILES = 1_000
FIELD = "files"
_UPLOAD_SECONDS = 900.0
_MOST_FIELDS = 10
_LONGEST_NAME = 1_000


@dataclass(frozen=True, slots=True)
class Upload:
    """The files of a request, and what its form tells of them."""

    files: list[NewFile]
    fields: UploadFields


@asynccontextmanager
async def uploaded(request: Request) -> AsyncIterator[Upload]:
    """Give the files of a multipart request while the block lasts.

    Raises UnsupportedMedia, PayloadTooLarge, MalformedRequest, InvalidRequest, RequestTimeout.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > LARGEST_UPLOAD_BYTES:
        raise too_large(LARGEST_UPLOAD_BYTES)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise UnsupportedMedia("The body has to be multipart/form-data with the field `files`.")
    with TemporaryDirectory(prefix="upload-") as folder:
        async with _parsed(request) as (parts, fields):
            files = await asyncio.to_thread(_saved, parts, Path(folder))
        yield Upload(files, fields)


@asynccontextmanager
async def _parsed(request: Request) -> AsyncIterator[tuple[list[UploadFile], UploadFields]]:
    parser = MultiPartParser(
        request.headers,
        _bounded(request),
        max_files=MOST_UPLOADED_FILES,
        max_fields=_MOST_FIELDS,
    )
    begun = parser._files_to_close_on_error  # which it does for errors of its own only
    try:
        async with asyncio.timeout(_UPLOAD_SECONDS):
            form = await parser.parse()
        parts, fields = _parts(form)
        if len(parts) < len(begun):
            raise MalformedRequest("The form ends before its last file does.", field="body")
        yield parts, checked(UploadFields, fields)
    except (MultiPartException, KeyError, TimeoutError) as error:
        raise _told(error) from None
    finally:
        for file in begun:
            file.close()


def _told(error: Exception) -> Exception:
    if isinstance(error, MultiPartException):
        return MalformedRequest(f"The form cannot be read: {error.message}", field="body")
    if isinstance(error, KeyError):
        return MalformedRequest("The form's boundary is missing.", field="body")
    return RequestTimeout("The files did not arrive in time.")


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > LARGEST_UPLOAD_BYTES:
            raise too_large(LARGEST_UPLOAD_BYTES)
        yield piece


def _parts(form: FormData) -> tuple[list[UploadFile], dict[str, str]]:
    files: list[UploadFile] = []
    fields: dict[str, str] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile) and name == FIELD:
            files.append(value)
        elif isinstance(value, str) and name in UploadFields.model_fields and name not in fields:
            fields[name] = value
        else:
            raise InvalidRequest(
                f"Only files in the field `{FIELD}` are taken, and one text `effective_from`.",
                field=FIELD,
            )
    if not files:
        raise InvalidRequest(f"There is no file in the field `{FIELD}`.", field=FIELD)
    return files, fields


def _saved(parts: list[UploadFile], folder: Path) -> list[NewFile]:
    found = []
    for number, part in enumerate(parts):
        path = folder / str(number)
        with path.open("wb") as target:
            shutil.copyfileobj(part.file, target)
        with path.open("rb") as source:
            digest = sha256()
            while piece := source.read(2**20):
                digest.update(piece)
        name = _shown(part.filename or f"file-{number + 1}")
        found.append(NewFile(name, path, path.stat().st_size, digest.digest()))
    return found


def _shown(name: str) -> str:
    """Return an uploaded name as a path below nothing: no root, no way up, nothing hidden."""
    plain = "".join(c for c in name.replace("\\", "/") if c.isprintable())
    parts = [part for part in plain.split("/") if part not in {"", ".", ".."}]
    return "/".join(parts)[-_LONGEST_NAME:] or "file"
