"""ingest, ask, search, usage, demo: a tenant's documents and questions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from compliance_copilot.core.vocabulary import (
    IngestedDocument,
    NewDocument,
    QueryReply,
    RetrievalMode,
    TenantId,
)

Tenant = Annotated[str, typer.Option("--tenant", help="The tenant's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Mode = Annotated[RetrievalMode | None, typer.Option("--retrieval-mode")]
TEXT_SUFFIXES = {".md", ".markdown", ".txt"}
_BATCH = 100


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(help="Take in Markdown and text files, folders walked.")(ingest)
    app.command(help="Ask a question; the answer comes with its quotes.")(ask)
    app.command(help="Find the sections that speak of something.")(search)
    app.command(help="Show what a tenant used.")(usage)
    app.command(help="Ask each example tenant its first sample question.")(demo)


def ingest(paths: list[Path], tenant: Tenant, as_json: Json = False) -> None:
    """Take files in, a hundred at a time; exit 1 when a file could not be read."""
    from rich.progress import track

    from compliance_copilot.cli.output import show, with_service
    from compliance_copilot.orchestrator import Service

    documents, failed = _read(paths)

    async def work(service: Service) -> list[IngestedDocument]:
        done: list[IngestedDocument] = []
        starts = range(0, len(documents), _BATCH)
        for at in track(starts, description="Ingesting", disable=as_json):
            reply = await service.copilot.ingest(tenant, documents[at : at + _BATCH])
            done += getattr(reply, "documents", [])
        return done

    done = with_service(work) if documents else []
    show(done, as_json=as_json, columns=("document_id", "version", "status", "chunks"))
    for line in failed:
        typer.echo(line, err=True)
    if failed or not documents:
        raise typer.Exit(1)


def _read(paths: Sequence[Path]) -> tuple[list[NewDocument], list[str]]:
    documents: list[NewDocument] = []
    failed: list[str] = []
    for root in paths:
        if not root.exists():
            failed.append(f"{root}: there is no such file or folder")
        for path in _files(root):
            name = path.name if path == root else str(path.relative_to(root))
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                failed.append(f"{path}: {error}")
                continue
            document_id = name.replace("/", " - ")
            documents.append(NewDocument(text, document_id, metadata={"source": name}))
    return documents, failed


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    elif root.is_dir():
        yield from sorted(p for p in root.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES)


def ask(
    question: str,
    tenant: Tenant,
    retrieval_mode: Mode = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100)] = None,
    as_json: Json = False,
) -> None:
    """Ask, and show the answer with where each quote stands."""
    from compliance_copilot.cli.output import console, show, with_service
    from compliance_copilot.core.replies import query_body

    overrides = _overrides(retrieval_mode, top_k)
    reply = with_service(lambda s: s.copilot.query(tenant, question, override_config=overrides))
    if not isinstance(reply, QueryReply):
        return
    if as_json:
        show(query_body(reply), as_json=True)
        return
    console.print(f"[bold]{reply.outcome}[/bold]")
    console.print(reply.answer, markup=False)
    for citation in reply.citations:
        chunk = reply.sources[citation.source].chunk
        where = f"{chunk.title}, {chunk.section or 'no section'}"
        place = f"version {chunk.version}, {citation.start}-{citation.end}"
        console.print(f"[{citation.marker}] {where} ({place}): {citation.quote!r}", markup=False)


def search(
    question: str,
    tenant: Tenant,
    retrieval_mode: Mode = None,
    top_k: Annotated[int | None, typer.Option(min=1, max=100)] = None,
    as_json: Json = False,
) -> None:
    """Find, and show the sections in their order."""
    from compliance_copilot.cli.output import show, with_service
    from compliance_copilot.core.replies import search_body

    overrides = _overrides(retrieval_mode, top_k)
    reply = with_service(lambda s: s.copilot.search(tenant, question, override_config=overrides))
    results = search_body(reply)["results"]
    show(results, as_json=as_json, columns=("score", "document_id", "version", "section"))


def _overrides(mode: RetrievalMode | None, top_k: int | None) -> dict[str, Any]:
    given = {"retrieval_mode": mode, "top_k": top_k}
    return {name: value for name, value in given.items() if value is not None}


def usage(tenant: Tenant, hours: float = 24.0) -> None:
    """Show the sums of the ledger over the last hours."""
    from compliance_copilot.cli.output import show, with_service
    from compliance_copilot.core.replies import usage_body

    show(usage_body(with_service(lambda s: s.copilot.metrics(tenant, hours))), as_json=True)


def demo() -> None:
    """Ask the example tenants the question that all of them can answer, each in its own way."""
    import orjson

    from compliance_copilot.cli.output import console, with_service
    from compliance_copilot.orchestrator import Service
    from compliance_copilot.settings import PROJECT_ROOT

    queries = orjson.loads((PROJECT_ROOT / "example_data.json").read_bytes())["sample_queries"]

    async def work(service: Service) -> dict[str, str]:
        answers = {}
        for tenant_id, questions in queries.items():
            reply = await service.copilot.query(TenantId(tenant_id), questions[0]["query"])
            answers[tenant_id] = f"{questions[0]['query']} - {getattr(reply, 'answer', '')}"
        return answers

    for tenant_id, answer in with_service(work).items():
        console.print(f"{tenant_id}: {answer}", markup=False)
