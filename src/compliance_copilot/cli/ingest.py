"""ingest: files and folders, taken in as a tenant's documents."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from compliance_copilot.cli.output import Json, TenantOption, in_utc, show, show_json, with_service
from compliance_copilot.cli.watching import Outcome, follow
from compliance_copilot.core.clock import new_id
from compliance_copilot.core.errors import CopilotError
from compliance_copilot.core.vocabulary import TenantId

if TYPE_CHECKING:
    from rich.progress import Progress

    from compliance_copilot.orchestrator import Service
    from compliance_copilot.rag.jobs import FileOutcome, NewFile

_BATCH_FILES = 16
_HELP = """Take in files: PDF, DOCX, XLSX, PPTX, HTML, Markdown, text, CSV, e-mail, ZIP of these.

Folders are walked; in them, pictures, programs and hidden files are passed by. A document's id is
its path below the folder, with ':' for '/'. A file whose bytes are the same as before is not read
again. Ends with 1 when a file could not be taken in.

Examples: compliance-copilot ingest ./policies --tenant acme_corp
compliance-copilot ingest ./policies --tenant acme_corp --watch
"""
Paths = Annotated[list[Path], typer.Argument(help="Files and folders.")]
EffectiveFrom = Annotated[
    datetime | None, typer.Option(help="From when what is new or changed holds (UTC); else: now.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Go on, and follow what changes.")]


@dataclass(slots=True)
class _Run:
    """One walk over the paths: what was found, and what became of it."""

    tenant: TenantId
    paths: Sequence[Path]
    effective_from: datetime | None = None
    files: "list[NewFile]" = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    """Files that were asked for by name, and not because they lie in a folder."""
    outcomes: list[Outcome] = field(default_factory=list)


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(ingest)


def ingest(
    paths: Paths,
    tenant: TenantOption,
    effective_from: EffectiveFrom = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Read, store in batches, and tell what became of each file."""
    run = _Run(TenantId(tenant), paths, in_utc(effective_from))
    _find(run)

    async def work(service: "Service") -> None:
        await _take_in(service, run, quiet=as_json)
        _tell(run, as_json=as_json)
        if watch:
            await _follow(service, run, as_json=as_json)

    if run.files or watch:
        with_service(work)
    else:
        _tell(run, as_json=as_json)
    if not run.outcomes:
        typer.echo("There is no file in these folders.", err=True)
    failed = not run.outcomes or any(o.status == "failed" for o in run.outcomes)
    if failed and not watch:
        raise typer.Exit(1)


async def _follow(service: "Service", run: _Run, *, as_json: bool) -> None:
    async def walk() -> list[Outcome]:
        again = _Run(run.tenant, run.paths)
        await asyncio.to_thread(_find, again)
        await _take_in(service, again, quiet=True)
        return again.outcomes

    def tell(outcomes: list[Outcome]) -> None:
        _tell(_Run(run.tenant, run.paths, outcomes=outcomes), as_json=as_json)

    await follow(service, run, walk, tell)


def _tell(run: _Run, *, as_json: bool) -> None:
    statuses = [outcome.status for outcome in run.outcomes]
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    if as_json:
        show_json({"tenant_id": run.tenant, "files": run.outcomes, "counts": counts})
        return
    columns = ("path", "status", "document_id", "version", "chunks", "reason", "duplicate_of")
    show(run.outcomes, as_json=False, name="files", columns=columns)
    typer.echo(", ".join(f"{n} {status}" for status, n in counts.items()))


def _find(run: _Run) -> None:
    from compliance_copilot.rag.jobs import NewFile

    for root in run.paths:
        for path in _files(root):
            name = path.name if path == root else path.relative_to(root).as_posix()
            try:
                content = path.read_bytes()
            except OSError as error:
                lost = Outcome(str(path), "failed", _id_of(name), reason=_words(error))
                run.outcomes.append(lost)
                continue
            if path == root:
                run.named.add(path)
            if any(file.path == path for file in run.files):
                continue  # in a folder, and named as well
            run.files.append(NewFile(name, path, len(content), sha256(content).digest()))


def _files(root: Path) -> Iterator[Path]:
    """Give a file as it is, and of a folder the files that are not hidden."""
    if not root.is_dir():
        yield root
        return
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not hidden:
            yield path


def _words(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "There is no such file or folder."
    return f"It cannot be read ({error.strerror})."


async def _take_in(service: "Service", run: _Run, *, quiet: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with (
        TemporaryDirectory(prefix="unpacked-") as folder,
        Progress(console=console, disable=quiet, transient=True) as progress,
    ):
        files = await service.filing.unpacked(run.files, Path(folder))
        known = await service.copilot.documents.source_hashes(run.tenant, [f.name for f in files])
        changed = []
        for file in files:
            if file.refusal:
                run.outcomes.append(_outcome(run, file, _failed(0, file.refusal)))
            elif known.get(file.name) == file.sha256:
                run.outcomes.append(Outcome(_shown(file), "unchanged", _id_of(file.name)))
            else:
                changed.append(file)
        await _send_all(service, run, changed, progress)


async def _send_all(
    service: "Service", run: _Run, files: "Sequence[NewFile]", progress: "Progress"
) -> None:
    from compliance_copilot.orchestrator.filing import FileSource
    from compliance_copilot.orchestrator.rooms import Call

    task = progress.add_task("Ingesting", total=len(files))
    call = Call(request_id=new_id())
    for number, at in zip(count(), range(0, len(files), _BATCH_FILES), strict=False):
        batch = files[at : at + _BATCH_FILES]
        sources = [
            FileSource(place, file.name, file.path, file.sha256, run.effective_from)
            for place, file in enumerate(batch)
            if file.path is not None
        ]
        try:
            done = await service.filing.take_in(
                run.tenant, sources, call=call, continues=number > 0
            )
        except CopilotError as error:
            reason = error.detail or error.code
            done = [_failed(source.place, reason) for source in sources]
        by_place = sorted(done, key=lambda outcome: outcome.place)
        run.outcomes += [_outcome(run, batch[outcome.place], outcome) for outcome in by_place]
        progress.advance(task, len(batch))


def _failed(place: int, reason: str) -> "FileOutcome":
    from compliance_copilot.rag.jobs import FileOutcome

    return FileOutcome(place, "failed", reason)


def _outcome(run: _Run, file: "NewFile", done: "FileOutcome") -> Outcome:
    status = done.status or done.state
    if file.path not in run.named and (done.reason or "").startswith("unsupported:"):
        status = "passed by"
    document_id = done.document_id or _id_of(file.name)
    chunks = done.chunks if done.status else None
    return Outcome(
        _shown(file), status, document_id, done.version, chunks, done.reason, done.duplicate_of
    )


def _shown(file: "NewFile") -> str:
    return file.name


def _id_of(name: str) -> str:
    from compliance_copilot.orchestrator.filing import document_id_of

    return document_id_of(name)
