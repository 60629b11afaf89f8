"""An OTLP collector on loopback: takes spans by gRPC and shows them as plain values."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from compliance_copilot.telemetry.trees import SpanLine, tree


@dataclass(frozen=True)
class Received:
    """One span as it arrived."""

    trace_id: str
    name: str
    span_id: str
    parent_id: str | None
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """Ids of the traces that it is linked to."""
    line: SpanLine


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span."""

    port: int = 0
    spans: list[Received] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    """Every request as text: what a search for canaries reads."""
    look: Callable[[Any], None] | None = None
    """Takes each request instead: nothing is kept."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the protocol's
        if self.look is not None:
            self.look(request)
            return trace_service_pb2.ExportTraceServiceResponse()
        self.raw.append(str(request))
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [_received(span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def traces(self) -> dict[str, list[Received]]:
        found: dict[str, list[Received]] = {}
        for span in self.spans:
            found.setdefault(span.trace_id, []).append(span)
        return found

    def trace_with(self, name: str) -> list[Received]:
        """Return the spans of the one trace that has a span of this name."""
        (trace,) = [t for t in self.traces().values() if any(s.name == name for s in t)]
        return trace


def drawn(spans: list[Received]) -> str:
    """Return spans as a tree."""
    return tree(span.line for span in spans)


def _received(span: Any) -> Received:
    attributes = {a.key: _value(a.value) for a in span.attributes}
    parent = span.parent_span_id.hex() or None
    failed = span.status.code == 2
    line = SpanLine(
        span.name,
        span.span_id.hex(),
        parent,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        attributes,
        failed,
    )
    return Received(
        span.trace_id.hex(),
        span.name,
        span.span_id.hex(),
        parent,
        attributes,
        tuple(link.trace_id.hex() for link in span.links),
        line,
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(v) for v in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def running_collector(look: Callable[[Any], None] | None = None) -> Iterator[Collector]:
    """Run a collector in this process while the context lasts."""
    collector = Collector(look=look)
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait(5)
