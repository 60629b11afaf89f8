"""Pinecone: its client, its errors in our words, and writing into it.

One namespace for each tenant, under a random name: nothing that is sent names a tenant. Sums are
made again from the rows here (`rag/scoring.py`), so what is rounded there changes no rank.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any
from uuid import UUID

import orjson

from compliance_copilot.adapters.filter_forms import pinecone_metadata
from compliance_copilot.adapters.outgoing import without_baggage
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, RetrievalUnavailable
from compliance_copilot.rag.filters import microseconds
from compliance_copilot.rag.replication import VectorRecord

CONTROLLER = "https://api.pinecone.io"
FROM, UNTIL = "in_force_from", "in_force_until"
FOR_EVER = 2**53 - 1
"""The largest whole number that a JSON number is sure to carry."""

# What one call takes: 1,000 vectors and 2 MB to write, 1,000 ids to delete, 2,048 sparse values and
# 40 KB of metadata in a vector.
_MOST_VECTORS = 1_000
_MOST_BYTES = 1_900_000
_MOST_IDS = 1_000
_MOST_SPARSE = 2_048
_ALMOST_NOTHING = 1e-12  # a dense vector of nothing but zeros is refused
_REASONS = {401: "auth", 403: "auth", 404: "no_index", 429: "rate_limited"}


class PineconeStore:
    """One index at Pinecone. `host`: its data plane; without it the control plane is asked."""

    def __init__(
        self,
        api_key: str,
        index_name: str,
        *,
        host: str | None = None,
        controller: str = CONTROLLER,
    ) -> None:
        self.name = f"pinecone:{index_name}"
        self.index_name = index_name
        self._api_key = api_key
        self._host = host
        self._controller = controller
        self._sdk: Any = None
        self._client: Any = None
        self._index: Any = None
        self._opening = asyncio.Lock()

    async def upsert(
        self, namespace: str, records: Sequence[VectorRecord], *, deadline: Deadline
    ) -> None:
        """Write records in calls that the vendor takes. Raises RetrievalUnavailable."""
        for batch in batches(records):
            await self.call("upsert", deadline, vectors=batch, namespace=namespace)

    async def delete(self, namespace: str, ids: Sequence[UUID], *, deadline: Deadline) -> None:
        """Remove records, whether or not they are there. Raises RetrievalUnavailable."""
        for start in range(0, len(ids), _MOST_IDS):
            batch = [str(chunk_id) for chunk_id in ids[start : start + _MOST_IDS]]
            await self._unless_absent("delete", deadline, ids=batch, namespace=namespace)

    async def drop(self, namespace: str, *, deadline: Deadline) -> None:
        """Remove a namespace, whether or not it is there. Raises RetrievalUnavailable."""
        await self._unless_absent("delete_namespace", deadline, name=namespace)

    async def describe(self, *, deadline: Deadline) -> Any:
        """Return the index's statistics: dimension, metric, namespaces with their sizes."""
        return await self.call("describe_index_stats", deadline)

    async def call(self, operation: str, deadline: Deadline, **arguments: object) -> Any:
        """Make one call on the index, within the deadline; nothing in it names a tenant.

        Raises RetrievalUnavailable (facts: provider, reason) or DeadlineExceeded.
        """
        try:
            with without_baggage():
                async with asyncio.timeout(deadline.remaining_seconds()):
                    index = await self._opened()
                    timeout = max(0.001, deadline.remaining_seconds())
                    return await getattr(index, operation)(timeout=timeout, **arguments)
        except Exception as error:
            if deadline.passed:
                raise DeadlineExceeded("The vector store took longer than there was.") from error
            raise _unavailable(error) from error

    async def _unless_absent(self, operation: str, deadline: Deadline, **arguments: object) -> None:
        try:
            await self.call(operation, deadline, **arguments)
        except RetrievalUnavailable as error:
            if error.facts["reason"] != "no_index":
                raise
            await self.describe(deadline=deadline)  # the namespace is not there; is the index?

    async def client(self) -> Any:
        """Return the vendor's client; its package takes half a second to import."""
        if self._client is None:
            self._sdk = await asyncio.to_thread(import_module, "pinecone")
            self._client = self._sdk.AsyncPinecone(
                api_key=self._api_key,
                # Named, so that a variable of the process never sends a key elsewhere.
                host=self._controller,
                retry_config=self._sdk.RetryConfig(max_retries=0),
            )
        return self._client

    async def _opened(self) -> Any:
        async with self._opening:
            if self._index is None:
                client = await self.client()
                name = "" if self._host else self.index_name
                self._index = await client.index(name, host=self._host or "")
        return self._index

    async def aclose(self) -> None:
        """Close the connections."""
        for opened in (self._index, self._client):
            if opened is not None:
                await opened.close()


def batches(records: Sequence[VectorRecord]) -> Iterator[list[dict[str, Any]]]:
    """Yield records in the vendor's form, in calls that it takes."""
    batch: list[dict[str, Any]] = []
    size = 0
    for record in records:
        vector = _vector(record)
        length = len(orjson.dumps(vector))
        if batch and (len(batch) == _MOST_VECTORS or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(vector)
        size += length
    if batch:
        yield batch


def _vector(record: VectorRecord) -> dict[str, Any]:
    dense = [round(value, 7) for value in record.dense.tolist()]
    until = record.effective_until
    metadata = {
        **pinecone_metadata(record.facts),
        FROM: microseconds(record.effective_from),
        UNTIL: FOR_EVER if until is None else microseconds(until),
    }
    vector: dict[str, Any] = {
        "id": str(record.chunk_id),
        "values": dense if any(dense) else [_ALMOST_NOTHING, *dense[1:]],
        "metadata": metadata,
    }
    if record.sparse:
        vector["sparse_values"] = sparse_values(record.sparse)
    return vector


def sparse_values(weights: Mapping[int, float]) -> dict[str, Any]:
    """Return weights in the vendor's form; of more than it takes, the heaviest."""
    heaviest = sorted(weights.items(), key=lambda entry: -entry[1])[:_MOST_SPARSE]
    ordered = sorted(heaviest)
    return {
        "indices": [term for term, _ in ordered],
        "values": [float(weight) for _, weight in ordered],
    }


def _unavailable(error: Exception) -> RetrievalUnavailable:
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        reason = _REASONS.get(status, "server_error" if status >= 500 else "bad_request")
    else:
        reason = "timeout" if isinstance(error, TimeoutError) else "connect"
    return RetrievalUnavailable(
        f"The vector store does not answer ({reason}).", provider="pinecone", reason=reason
    )
