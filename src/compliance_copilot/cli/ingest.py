"""ingest: files and folders, taken in as a tenant's documents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance_copilot.cli.output import Json, TenantOption, show, show_json, with_service
from compliance_copilot.core.errors import CopilotError, InvalidRequest
from compliance_copilot.core.vocabulary import IngestReply, NewDocument

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service

SUFFIXES = (".md", ".markdown", ".txt")
_MOST_BYTES = 2_000_000  # as POST /ingest has it
_MOST_ID_CHARACTERS = 255
_BATCH_DOCUMENTS = 100
_HELP = f"""Take in text files ({", ".join(SUFFIXES)}); folders are walked.

A document's id is its path below the folder, with ':' for '/'. The same content again is no work.
Ends with 1 when a file could not be taken in.

Example: compliance-copilot ingest ./policies --tenant acme_corp
"""
Paths = Annotated[list[Path], typer.Argument(help="Files and folders.")]


@dataclass(slots=True)
class Outcome:
    """What became of one file."""

    path: str
    status: str = "waiting"
    document_id: str | None = None
    version: int | None = None
    chunks: int | None = None
    reason: str | None = None

    def fail(self, reason: str) -> None:
        """Note why the file was not taken in."""
        self.status, self.reason = "failed", reason


@dataclass(slots=True)
class _Found:
    """Files that can be sent, each with its document, and all files in their order."""

    ready: list[tuple[Outcome, NewDocument]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(ingest)


def ingest(paths: Paths, tenant: TenantOption, as_json: Json = False) -> None:
    """Read, send in batches, and tell what became of each file."""
    found = _read(paths)
    if found.ready:
        with_service(lambda s: _send_all(s, tenant, found, quiet=as_json))
    if as_json:
        show_json({"tenant_id": tenant, "files": found.outcomes, "counts": _counts(found)})
    else:
        columns = ("path", "status", "document_id", "version", "chunks", "reason")
        show(found.outcomes, as_json=False, name="files", columns=columns)
        typer.echo(", ".join(f"{n} {status}" for status, n in _counts(found).items()))
    if not found.outcomes:
        typer.echo(f"There is no {', '.join(SUFFIXES)} file in these folders.", err=True)
    if not found.outcomes or any(o.status == "failed" for o in found.outcomes):
        raise typer.Exit(1)


def _counts(found: _Found) -> dict[str, int]:
    statuses = [outcome.status for outcome in found.outcomes]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


async def _send_all(service: "Service", tenant: str, found: _Found, *, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet, transient=True) as progress:
        task = progress.add_task("Ingesting", total=len(found.ready))
        for at in range(0, len(found.ready), _BATCH_DOCUMENTS):
            batch = found.ready[at : at + _BATCH_DOCUMENTS]
            await _send(service, tenant, batch)
            progress.advance(task, len(batch))


async def _send(service: "Service", tenant: str, batch: list[tuple[Outcome, NewDocument]]) -> None:
    """Send a batch; a document that is refused is left out, and the rest sent again."""
    while batch:
        try:
            reply = await service.copilot.ingest(tenant, [document for _, document in batch])
        except InvalidRequest as error:
            place = _place(error, len(batch))
            if place is None:
                raise
            batch.pop(place)[0].fail(error.detail)
            continue
        except CopilotError as error:
            for outcome, _ in batch:
                outcome.fail(error.detail or error.code)
            return
        _note(reply, [outcome for outcome, _ in batch])
        return


def _place(error: InvalidRequest, size: int) -> int | None:
    """Return which document of a batch `documents.N.field` speaks of."""
    parts = str(error.facts.get("field", "")).split(".")
    if len(parts) < 2 or parts[0] != "documents" or not parts[1].isdecimal():
        return None
    return int(parts[1]) if int(parts[1]) < size else None


def _note(reply: Any, outcomes: Sequence[Outcome]) -> None:
    if not isinstance(reply, IngestReply):
        return  # only a repeated Idempotency-Key is answered otherwise, and none is sent
    for outcome, done in zip(outcomes, reply.documents, strict=True):
        outcome.status, outcome.document_id = done.status, done.document_id
        outcome.version, outcome.chunks = done.version, done.chunks


def _read(paths: Sequence[Path]) -> _Found:
    found, taken = _Found(), dict[str, str]()
    for root in paths:
        for path in _files(root):
            name = path.name if path == root else path.relative_to(root).as_posix()
            outcome = Outcome(str(path), document_id=name.replace("/", ":"))
            found.outcomes.append(outcome)
            text = _text_of(path, outcome, taken)
            if text is not None:
                metadata = {"source": name}
                document = NewDocument(text, outcome.document_id, metadata=metadata)
                found.ready.append((outcome, document))
    return found


def _files(root: Path) -> Iterator[Path]:
    """Give a file as it is, and of a folder the text files that are not hidden."""
    if not root.is_dir():
        yield root
        return
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden:
            yield path


def _text_of(path: Path, outcome: Outcome, taken: dict[str, str]) -> str | None:
    """Return a file's text, or None after noting why it cannot be taken in."""
    reason = _refusal(path, outcome.document_id or "", taken)
    if reason is None:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            reason = "It is not UTF-8 text."
        except OSError as error:
            reason = f"It cannot be read ({error.strerror})."
        else:
            taken[outcome.document_id or ""] = str(path)
            if "\x00" not in text:
                return text
            reason = "It holds a NUL character, so it is not text."
    outcome.fail(reason)
    return None


def _refusal(path: Path, document_id: str, taken: dict[str, str]) -> str | None:
    if not path.exists():
        return "There is no such file or folder."
    if path.suffix.lower() not in SUFFIXES:
        return f"Only {', '.join(SUFFIXES)} files are read."
    if path.stat().st_size > _MOST_BYTES:
        return f"It has more than {_MOST_BYTES} bytes; cut it into several files."
    if len(document_id) > _MOST_ID_CHARACTERS or not document_id.isprintable():
        return "Its path makes no document id (255 printable characters at most)."
    if document_id in taken:
        return f"Its document id is that of {taken[document_id]}."
    return None
