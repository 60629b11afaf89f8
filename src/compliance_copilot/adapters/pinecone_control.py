"""Making and checking the index at Pinecone: `compliance-copilot vectors init`, and the start."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from compliance_copilot.adapters.outgoing import without_baggage
from compliance_copilot.adapters.pinecone_store import PineconeStore
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, RetrievalUnavailable, SetupError

METRIC = "dotproduct"
"""The one metric with which an index takes dense and sparse values together."""
DEFAULT_CLOUD, DEFAULT_REGION = "aws", "us-east-1"
_CLOUDS = ("aws", "gcp", "azure")
_MOST_READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Found:
    """An index as it is: made just now or present before."""

    created: bool
    dimension: int
    metric: str
    host: str


def deployment(environment: str | None) -> dict[str, str]:
    """Return where an index is made, from `PINECONE_ENVIRONMENT`: a region, with or without cloud.

    `us-west-2`, `us-central1`, `eastus2`; also the older form `us-west1-gcp`.
    """
    if not environment:
        return _managed(DEFAULT_CLOUD, DEFAULT_REGION)
    region, _, cloud = environment.rpartition("-")
    if cloud in _CLOUDS and region:
        return _managed(cloud, region)
    if re.fullmatch(r"[a-z]+-[a-z]+-\d", environment):
        return _managed("aws", environment)
    return _managed("gcp" if "-" in environment else "azure", environment)


def _managed(cloud: str, region: str) -> dict[str, str]:
    return {"deployment_type": "managed", "cloud": cloud, "region": region}


async def ensure_index(
    store: PineconeStore, *, dimension: int, region: str | None, deadline: Deadline
) -> Found:
    """Make the index unless it is there, and check its shape. Raises SetupError in one line."""
    client = await store.client()
    try:
        with without_baggage():
            async with asyncio.timeout(deadline.remaining_seconds()):
                return await _ensured(client, store.index_name, dimension, region)
    except SetupError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise SetupError(
            f"PINECONE_INDEX_NAME: the index {store.index_name!r} cannot be made ({words}); check"
            " PINECONE_API_KEY and PINECONE_ENVIRONMENT."
        ) from error


async def _ensured(client: Any, name: str, dimension: int, region: str | None) -> Found:
    present = await client.indexes.exists(name)
    if not present:
        shape = {"type": "dense_vector", "dimension": dimension, "metric": METRIC}
        # `_values` is the field under which the vectors' own calls find dense values.
        await client.indexes.create(
            name=name,
            schema={"fields": {"_values": shape}},
            deployment=deployment(region),
            timeout=_MOST_READY_SECONDS,
        )
    index = await client.indexes.describe(name)
    refuse_other_shape(name, index.dimension, index.metric, dimension)
    return Found(not present, index.dimension, index.metric, index.host or "")


def refuse_other_shape(name: str, dimension: int | None, metric: str | None, wanted: int) -> None:
    """Raise SetupError when an index cannot hold vectors of the embedder."""
    if dimension not in (None, wanted):
        raise SetupError(
            f"PINECONE_INDEX_NAME: the index {name!r} has {dimension} dimensions, the embedder"
            f" {wanted}; name another index and run `compliance-copilot vectors init`."
        )
    if metric not in (None, METRIC):
        raise SetupError(
            f"PINECONE_INDEX_NAME: the index {name!r} compares by {metric!r}; words need"
            f" {METRIC!r}: name another index and run `compliance-copilot vectors init`."
        )


async def check_index(store: PineconeStore, *, dimension: int, deadline: Deadline) -> None:
    """Refuse an index that is not there or of another shape; an outage is left to `/ready`.

    Raises SetupError in one line.
    """
    try:
        stats = await store.describe(deadline=deadline)
    except RetrievalUnavailable as error:
        if error.facts["reason"] == "no_index":
            raise SetupError(
                f"PINECONE_INDEX_NAME: there is no index {store.index_name!r}; run"
                " `compliance-copilot vectors init`."
            ) from error
        return
    except DeadlineExceeded:
        return
    refuse_other_shape(store.index_name, stats.dimension, stats.metric, dimension)
