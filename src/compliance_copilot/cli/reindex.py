"""reindex: every corpus moved to the embedder and the vector store that are configured."""

import asyncio
import sys

import typer

from compliance_copilot.cli.output import Json, show_one

_PAGE = 500
_HELP = """Move every tenant's vectors to the configured embedder and vector store.

Run it after EMBEDDING_PROVIDER, ONNX_MODEL_DIR, VECTOR_STORE or PINECONE_INDEX_NAME was changed,
and start the service with the new settings when it is done. A service that still runs with the old
ones answers for each tenant until that tenant has moved, and refuses it from then on. A run that
was cut off goes on where it was. A vendor's embeddings are in each tenant's ledger.

Example: VECTOR_STORE=pinecone compliance-copilot reindex
"""


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(reindex)


def reindex(as_json: Json = False) -> None:
    """Move tenants one after the other, with a progress bar."""
    moved, there = asyncio.run(_reindex())
    if as_json:
        show_one({"moved": moved, "already_there": there}, as_json=True)
    else:
        typer.echo(f"{moved} tenants moved, {there} were there already.")


async def _reindex() -> tuple[int, int]:
    from rich.console import Console
    from rich.progress import Progress

    from compliance_copilot.settings import load_settings
    from compliance_copilot.wiring import open_service

    moved = there = 0
    async with open_service(load_settings(load_examples=False), moving=True) as service:
        with Progress(console=Console(file=sys.stderr), transient=True) as progress:
            after = ""
            while page := await service.tenants.list_ids(after=after, limit=_PAGE):
                for tenant_id in page:
                    bar = progress.add_task(tenant_id, total=None)

                    def told(what: str, done: int, total: int, bar: object = bar) -> None:
                        name = f"{tenant_id}: {what}"  # noqa: B023 - of the loop's present turn
                        progress.update(bar, description=name, completed=done, total=total)  # type: ignore[arg-type]

                    if await service.copilot.reindex(tenant_id, told):
                        moved += 1
                    else:
                        there += 1
                    progress.remove_task(bar)
                after = page[-1]
    return moved, there
