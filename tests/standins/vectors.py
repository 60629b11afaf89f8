"""A stand-in for Pinecone in its own process: control plane, data plane, documented limits.

Run: `python -m tests.standins.vectors --port 0 --log calls.jsonl`; the first line printed is the
port. The control plane is the root, an index's data plane is `/at/<index>`. Every call is one JSON
line in the log. Faults as of `provider.py`: `500 503 429 401 blackhole delay`, and `lost`: the
call is carried out and its reply never comes.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.standins.provider import STATUSES, Provider, Request, send, veiled

MOST = {"upsert": 1_000, "bytes": 2_000_000, "top_k": 10_000, "sparse": 2_048, "delete": 1_000,
        "metadata": 40_960, "list": 100}  # fmt: skip


class RefusedError(Exception):
    """What the vendor answers with a status of 4xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Index:
    """One index: its shape and its namespaces of records by id."""

    name: str
    dimension: int
    metric: str
    deployment: dict
    namespaces: dict[str, dict[str, dict]] = field(default_factory=dict)


@dataclass
class Vectors(Provider):
    """The server's state: its indexes, its faults, its log."""

    indexes: dict[str, Index] = field(default_factory=dict)
    url: str = ""

    async def _called(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        plain = "/" + request.path.removeprefix("/at/").partition("/")[2]
        fault = self._fault(plain if request.path.startswith("/at/") else request.path)
        status, reply = STATUSES.get(fault.mode, 200), {"error": {"message": fault.mode}}
        if status == 200 and fault.mode != "blackhole":
            try:
                reply = self._answer(request)
            except RefusedError as refused:
                status, reply = refused.status, {"error": {"message": str(refused)}}
        self._note(request, fault.mode, status)
        if fault.mode == "delay":
            await asyncio.sleep(fault.seconds)
        if fault.mode in ("blackhole", "lost"):
            await reader.read()
            return False
        await send(writer, status, reply)
        return True

    def _note(self, request: Request, mode: str, status: int) -> None:
        self.calls += 1
        line = {
            "at": time.time(), "method": request.method, "path": request.path, "mode": mode,
            "status": status, "query": request.query, "body": request.body,
            "headers": {name: veiled(name, value) for name, value in request.headers.items()},
        }  # fmt: skip
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()

    def _answer(self, request: Request) -> dict:
        if not request.headers.get("api-key"):
            raise RefusedError(401, "no API key")
        if not request.path.startswith("/at/"):
            return self._controlled_index(request)
        name, _, call = request.path.removeprefix("/at/").partition("/")
        return DataPlane(self._index(name)).answer(request, call)

    def _index(self, name: str) -> Index:
        if name not in self.indexes:
            raise RefusedError(404, f"there is no index {name!r}")
        return self.indexes[name]

    def _controlled_index(self, request: Request) -> dict:
        name = request.path.removeprefix("/indexes").lstrip("/")
        if request.method == "POST":
            body = request.body
            if body["name"] in self.indexes:
                raise RefusedError(409, "the name is taken")
            shape = body["schema"]["fields"]["_values"]
            self.indexes[body["name"]] = Index(
                body["name"], shape["dimension"], shape["metric"], body["deployment"]
            )
            return self._model(self.indexes[body["name"]])
        if not name:
            return {"indexes": [self._model(index) for index in self.indexes.values()]}
        if request.method == "DELETE":
            self._index(name)
            del self.indexes[name]
            return {}
        return self._model(self._index(name))

    def _model(self, index: Index) -> dict:
        shape = {"type": "dense_vector", "dimension": index.dimension, "metric": index.metric}
        return {
            "name": index.name, "host": f"{self.url}/at/{index.name}",
            "status": {"ready": True, "state": "Ready"}, "deletion_protection": "disabled",
            "schema": {"fields": {"_values": shape}}, "deployment": index.deployment,
            "read_capacity": {"mode": "OnDemand", "status": {"state": "Ready"}},
        }  # fmt: skip


@dataclass
class DataPlane:
    """The calls on one index."""

    index: Index

    def answer(self, request: Request, call: str) -> dict:
        if call.startswith("namespaces"):
            return self._namespaces(request, call.partition("/")[2])
        body = request.body
        answers = {
            "vectors/upsert": lambda: self._upsert(body),
            "query": lambda: self._query(body),
            "vectors/fetch": lambda: self._fetch(request.query),
            "vectors/delete": lambda: self._delete(body),
            "vectors/update": lambda: self._update(body),
            "vectors/list": lambda: self._list(request.query),
            "describe_index_stats": self._stats,
        }
        if call not in answers:
            raise RefusedError(404, f"no such call: {call}")
        return answers[call]()

    def _of(self, body: dict) -> dict[str, dict]:
        return self.index.namespaces.get(body.get("namespace") or "__default__", {})

    def _upsert(self, body: dict) -> dict:
        vectors = body["vectors"]
        if not 0 < len(vectors) <= MOST["upsert"]:
            raise RefusedError(400, f"{len(vectors)} vectors in one call")
        if len(json.dumps(body)) > MOST["bytes"]:
            raise RefusedError(400, "the request is larger than 2 MB")
        for vector in vectors:
            self._refuse_bad(vector)
        space = self.index.namespaces.setdefault(body.get("namespace") or "__default__", {})
        space.update({vector["id"]: vector for vector in vectors})
        return {"upsertedCount": len(vectors)}

    def _refuse_bad(self, vector: dict) -> None:
        values, sparse = vector.get("values") or [], vector.get("sparseValues")
        if len(values) != self.index.dimension:
            raise RefusedError(400, f"dimension {len(values)} of {self.index.dimension}")
        if not any(values):
            raise RefusedError(400, "dense vectors must contain at least one non-zero value")
        if sparse is not None:
            self._refuse_sparse(sparse)
        metadata = vector.get("metadata") or {}
        if len(json.dumps(metadata)) > MOST["metadata"]:
            raise RefusedError(400, "metadata is larger than 40 KB")
        for value in metadata.values():
            words = isinstance(value, list) and all(isinstance(part, str) for part in value)
            if not (words or isinstance(value, str | int | float | bool)):
                raise RefusedError(400, f"metadata value {value!r}")

    def _refuse_sparse(self, sparse: dict) -> None:
        if self.index.metric != "dotproduct":
            raise RefusedError(400, f"sparse values in an index of metric {self.index.metric}")
        if not 0 < len(sparse["indices"]) <= MOST["sparse"]:
            raise RefusedError(400, f"{len(sparse['indices'])} sparse values")
        if not all(0 <= index < 2**32 for index in sparse["indices"]):
            raise RefusedError(400, "a sparse index is no uint32")

    def _query(self, body: dict) -> dict:
        if not 0 < body["topK"] <= MOST["top_k"]:
            raise RefusedError(400, f"topK {body['topK']}")
        if "vector" not in body or len(body["vector"]) != self.index.dimension:
            raise RefusedError(400, "a query needs a dense vector of the index's dimension")
        asked = np.array(body["vector"])
        sparse = body.get("sparseVector")
        if sparse is not None:
            self._refuse_sparse(sparse)
        words = dict(zip(sparse["indices"], sparse["values"], strict=True)) if sparse else {}
        found = []
        for record in self._of(body).values():
            if matches(body.get("filter") or {}, record.get("metadata") or {}):
                score = float(np.array(record["values"]) @ asked) + _inner(record, words)
                found.append((score, record))
        found.sort(key=lambda entry: -entry[0])
        best = [_shown(record, body, score) for score, record in found[: body["topK"]]]
        return {"matches": best, "namespace": body.get("namespace", ""), "usage": {"readUnits": 1}}

    def _fetch(self, query: dict) -> dict:
        space = self._of({"namespace": query.get("namespace", [""])[0]})
        return {"vectors": {i: space[i] for i in query.get("ids", []) if i in space}}

    def _delete(self, body: dict) -> dict:
        name = body.get("namespace") or "__default__"
        if name not in self.index.namespaces:
            raise RefusedError(404, "Namespace not found")
        space = self.index.namespaces[name]
        if body.get("deleteAll"):
            space.clear()
        for record_id in self._chosen(space, body):
            space.pop(record_id, None)
        return {}

    def _chosen(self, space: dict[str, dict], body: dict) -> list[str]:
        ids = body.get("ids") or []
        if len(ids) > MOST["delete"]:
            raise RefusedError(400, f"{len(ids)} ids in one call")
        if body.get("filter"):
            ids = [i for i, r in space.items() if matches(body["filter"], r.get("metadata") or {})]
        return ids

    def _update(self, body: dict) -> dict:
        record = self._of(body).get(body["id"])
        if record is not None:
            record["metadata"] = {**(record.get("metadata") or {}), **body.get("setMetadata", {})}
        return {}

    def _list(self, query: dict) -> dict:
        ids = sorted(self._of({"namespace": query.get("namespace", [""])[0]}))
        prefix, after = query.get("prefix", [""])[0], query.get("paginationToken", [""])[0]
        limit = min(int(query.get("limit", [MOST["list"]])[0]), MOST["list"])
        rest = [i for i in ids if i.startswith(prefix) and i > after]
        page = {"vectors": [{"id": i} for i in rest[:limit]]}
        return {**page, "pagination": {"next": rest[limit - 1]}} if len(rest) > limit else page

    def _stats(self) -> dict:
        sizes = {name: len(space) for name, space in self.index.namespaces.items()}
        return {
            "namespaces": {name: {"vectorCount": size} for name, size in sizes.items()},
            "dimension": self.index.dimension, "metric": self.index.metric, "indexFullness": 0,
            "totalVectorCount": sum(sizes.values()), "vectorType": "dense",
        }  # fmt: skip

    def _namespaces(self, request: Request, name: str) -> dict:
        spaces = self.index.namespaces
        if not name:
            found = [{"name": n, "record_count": str(len(s))} for n, s in spaces.items()]
            return {"namespaces": found}
        if name not in spaces:
            raise RefusedError(404, "Namespace not found")
        if request.method == "DELETE":
            del spaces[name]
            return {}
        return {"name": name, "record_count": str(len(spaces[name]))}


def _inner(record: dict, words: dict[int, float]) -> float:
    stored = record.get("sparseValues")
    if not stored or not words:
        return 0.0
    pairs = zip(stored["indices"], stored["values"], strict=True)
    return sum(words[index] * value for index, value in pairs if index in words)


def _shown(record: dict, body: dict, score: float) -> dict:
    shown = {"id": record["id"], "score": score}
    if body.get("includeValues"):
        shown["values"] = record["values"]
    if body.get("includeMetadata"):
        shown["metadata"] = record.get("metadata") or {}
    return shown


def matches(condition: dict, metadata: dict) -> bool:
    """Tell whether a record's metadata satisfies a filter of the documented language."""
    return all(_holds(name, wanted, metadata) for name, wanted in condition.items())


def _holds(name: str, wanted: object, metadata: dict) -> bool:
    if name == "$and":
        return all(matches(part, metadata) for part in wanted)
    if name == "$or":
        return any(matches(part, metadata) for part in wanted)
    if name.startswith("$"):
        raise RefusedError(400, f"operator {name}")
    operators = wanted if isinstance(wanted, dict) else {"$eq": wanted}
    return all(_compared(op, value, metadata, name) for op, value in operators.items())


def _compared(operator: str, wanted: object, metadata: dict, name: str) -> bool:
    present = metadata.get(name)
    if operator == "$exists":
        return (name in metadata) is wanted
    values = present if isinstance(present, list) else [] if present is None else [present]
    if operator in ("$ne", "$nin"):
        return not _compared("$eq" if operator == "$ne" else "$in", wanted, metadata, name)
    if operator in ("$eq", "$in"):
        options = wanted if operator == "$in" else [wanted]
        return any(_same(value, option) for value in values for option in options)
    orders = {"$gt": lambda a, b: a > b, "$gte": lambda a, b: a >= b,
              "$lt": lambda a, b: a < b, "$lte": lambda a, b: a <= b}  # fmt: skip
    if operator not in orders or isinstance(wanted, bool) or not isinstance(wanted, int | float):
        raise RefusedError(400, f"{operator} with {wanted!r}")
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return any(orders[operator](number, wanted) for number in numbers)


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


async def serve(port: int, log: Path) -> None:
    """Serve until the process is ended."""
    with log.open("a", encoding="utf-8") as lines:
        state = Vectors(lines)
        server = await asyncio.start_server(state.connected, "127.0.0.1", port, limit=2**22)
        number = server.sockets[0].getsockname()[1]
        state.url = f"http://127.0.0.1:{number}"
        print(number, flush=True)  # noqa: T201
        await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.log))


if __name__ == "__main__":
    main()
