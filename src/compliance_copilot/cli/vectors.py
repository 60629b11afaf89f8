"""vectors: the index of a hosted vector store, and those of large tenants."""

import asyncio

import typer

from compliance_copilot.cli.output import Json, show_one

app = typer.Typer(no_args_is_help=True)
_INIT_SECONDS = 180.0
_INIT_HELP = """Make the index at Pinecone, unless it is there, and check that it fits the embedder.

Uses PINECONE_API_KEY, PINECONE_INDEX_NAME and PINECONE_ENVIRONMENT (its region, which may be
unset). An index is never changed or removed.

Example: PINECONE_API_KEY=... compliance-copilot vectors init
"""


@app.command(help=_INIT_HELP)
def init(as_json: Json = False) -> None:
    """Make the index and tell what it is like."""
    show_one(asyncio.run(_init()), as_json=as_json)


_HNSW_HELP = """Give large tenants an index of their own for dense search (`basic` mode).

Tenants with HNSW_MIN_CHUNKS chunks or more get one, others lose theirs; safe to repeat, and nobody
has to wait meanwhile. Needs the owner, as `migrate` does. Prints the recall that was measured.

Example: HNSW_MIN_CHUNKS=100000 compliance-copilot vectors hnsw
"""


@app.command(help=_HNSW_HELP)
def hnsw(as_json: Json = False) -> None:
    """Make and drop indexes, and tell which."""
    asyncio.run(_hnsw(as_json=as_json))


async def _hnsw(*, as_json: bool) -> None:
    from dataclasses import asdict

    from compliance_copilot.core.errors import SetupError
    from compliance_copilot.settings import load_settings
    from compliance_copilot.storage.large_tenants import index_large_tenants
    from compliance_copilot.wiring import open_server

    settings = load_settings()
    async with open_server(settings) as addresses:
        if addresses.owner is None:
            raise SetupError("DATABASE_OWNER_URL: is not set; an index is made by the owner.")
        found = index_large_tenants(addresses.owner, min_chunks=settings.hnsw_min_chunks)
        async for changed in found:
            show_one(asdict(changed), as_json=as_json)


async def _init() -> dict[str, object]:
    from compliance_copilot.adapters.pinecone_control import ensure_index
    from compliance_copilot.core.clock import Deadline
    from compliance_copilot.core.errors import SetupError
    from compliance_copilot.engines import make_embedder, make_pinecone_store, warm
    from compliance_copilot.settings import load_settings

    settings = load_settings()
    if settings.pinecone_api_key is None:
        raise SetupError("PINECONE_API_KEY: is not set; Pinecone needs it to make an index.")
    embedder = make_embedder(settings)
    await warm(embedder)
    store = make_pinecone_store(settings)
    try:
        found = await ensure_index(
            store,
            dimension=embedder.dimensions,
            region=settings.pinecone_environment,
            deadline=Deadline.after(_INIT_SECONDS),
        )
    finally:
        await store.aclose()
    return {
        "index": store.index_name,
        "state": "made" if found.created else "was there",
        "dimension": found.dimension,
        "metric": found.metric,
        "host": found.host,
    }
