"""ask, search, demo: questions, with what their answers rest on."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compliance_copilot.cli.output import (
    Json,
    TenantOption,
    console,
    in_utc,
    show,
    show_json,
    with_service,
)
from compliance_copilot.core.vocabulary import ModelTier, QueryReply, RetrievalMode

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service

Question = Annotated[str, typer.Argument(help="What you would ask a colleague, in quotes.")]
Tier = Annotated[ModelTier | None, typer.Option("--model-tier", help="Who answers.")]
Mode = Annotated[RetrievalMode | None, typer.Option("--retrieval-mode", help="How to look.")]
AsOf = Annotated[
    datetime | None, typer.Option("--as-of", help="From what was in force then (UTC).")
]
TopK = Annotated[int | None, typer.Option(min=1, max=100, help="How many sources.")]
_ASK = """Ask a question; the answer comes with the quotes it rests on.

Example: compliance-copilot ask "What are our data encryption requirements?" --tenant acme_corp
"""
_SEARCH = """Find the sections that speak of something, best first.

Example: compliance-copilot search "password length" --tenant acme_corp --top-k 3
"""
_DEMO = """Ask each example tenant its first sample question.

Examples: compliance-copilot demo · compliance-copilot demo --json
"""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(help=_ASK)(ask)
    app.command(help=_SEARCH)(search)
    app.command(help=_DEMO)(demo)


def ask(  # noqa: PLR0913 - one for each option of the command
    question: Question,
    tenant: TenantOption,
    model_tier: Tier = None,
    retrieval_mode: Mode = None,
    top_k: TopK = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Ask, and show the answer with where each quote stands."""
    from compliance_copilot.core.replies import query_body
    from compliance_copilot.rag.filter_language import narrowed

    over = _overrides(model_tier=model_tier, retrieval_mode=retrieval_mode, top_k=top_k)
    then = narrowed(as_of=in_utc(as_of))
    reply = with_service(
        lambda s: s.copilot.query(tenant, question, override_config=over, narrowing=then)
    )
    if not isinstance(reply, QueryReply):
        return  # only a repeated Idempotency-Key is answered otherwise, and none is sent
    if as_json:
        show_json(query_body(reply))
    else:
        _show_answer(reply)


def search(
    question: Question,
    tenant: TenantOption,
    retrieval_mode: Mode = None,
    top_k: TopK = None,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Find, and show the sections in their order."""
    from compliance_copilot.core.replies import search_body
    from compliance_copilot.rag.filter_language import narrowed

    over = _overrides(retrieval_mode=retrieval_mode, top_k=top_k)
    then = narrowed(as_of=in_utc(as_of))
    body = search_body(
        with_service(
            lambda s: s.copilot.search(tenant, question, override_config=over, narrowing=then)
        )
    )
    if as_json:
        show_json(body)
        return
    columns = ("score", "title", "section", "page", "document_id", "version", "start", "end")
    show(body["results"], as_json=False, name="results", columns=columns)


def demo(as_json: Json = False) -> None:
    """Ask the question that all example tenants can answer, each in its own way."""
    import orjson

    from compliance_copilot.core.replies import query_body
    from compliance_copilot.settings import PROJECT_ROOT

    samples = orjson.loads((PROJECT_ROOT / "example_data.json").read_bytes())["sample_queries"]
    first = {tenant_id: questions[0]["query"] for tenant_id, questions in samples.items()}

    async def work(service: "Service") -> dict[str, Any]:
        return {
            tenant_id: await service.copilot.query(tenant_id, question)
            for tenant_id, question in first.items()
        }

    replies = with_service(work)
    if as_json:
        show_json({tenant_id: query_body(reply) for tenant_id, reply in replies.items()})
        return
    for tenant_id, reply in replies.items():
        console.print(f"\n{tenant_id}: {first[tenant_id]}", style="bold", markup=False)
        _show_answer(reply)


def _overrides(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _show_answer(reply: QueryReply) -> None:
    console.print(reply.answer or "No answer.", markup=False)
    for citation in reply.citations:
        chunk = reply.sources[citation.source].chunk
        page = f"page {chunk.page}" if chunk.page else None
        where = ", ".join(part for part in (chunk.title, chunk.section, page) if part)
        place = (
            f"{chunk.document_id}, version {chunk.version},"
            f" characters {citation.start}-{citation.end}"
        )
        console.print(f'  [{citation.marker}] "{citation.quote}"', markup=False)
        console.print(f"      {where} ({place})", markup=False, style="dim")
    told = reply.metadata
    line = f"{reply.outcome}, {told.model}, {told.retrieval_mode}, {told.cost_usd:.6f} USD"
    console.print(line, markup=False, style="dim")
