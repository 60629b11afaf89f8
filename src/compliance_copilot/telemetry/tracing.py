"""Spans of our own work, sent to a collector when one is named.

`span()` is what the rooms use. The tenant comes from our own baggage (`tenant_id`) and is put on
our spans alone; baggage and `tracestate` that a caller sends are dropped, and vendors are called
without either. What an exception says stays out: it may quote a document.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType

from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from compliance_copilot.telemetry import requests

TENANT_KEY = "tenant_id"
_MOST_WAITING_SPANS = 4_096
_EXPORT_SECONDS, _FAREWELL_SECONDS = 5.0, 2.0
_FORMAT = TraceContextTextMapPropagator()
Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class Tracing:
    """How this process traces: where to, how many of its own traces, and whether with content."""

    endpoint: str
    ratio: float = 1.0
    content: bool = False
    version: str = "0"


class _State:
    """The one tracer of this process; None while nobody listens."""

    tracer: trace.Tracer | None = None
    content = False


def is_on() -> bool:
    """Tell whether spans are recorded."""
    return _State.tracer is not None


def content_is_on() -> bool:
    """Tell whether texts of questions, sources and answers may stand in spans."""
    return _State.tracer is not None and _State.content


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: Context | None = None,
    links: Sequence[Link] = (),
) -> AbstractContextManager[Span]:
    """Return a context in which a span is the current one; off, one that does nothing.

    An error that leaves the block marks the span with its code or type, never with its words.
    """
    tracer = _State.tracer
    if tracer is None:
        return _OFF
    return _Block(tracer, name, attributes, kind, parent, links)


def begun(
    name: str, attributes: Attributes | None = None, *, kind: SpanKind = SpanKind.INTERNAL
) -> Span:
    """Return a span below the current one that its user ends; it does not become current."""
    tracer = _State.tracer
    if tracer is None:
        return trace.INVALID_SPAN
    return tracer.start_span(name, kind=kind, attributes=attributes)


class _Block:
    __slots__ = ("_attributes", "_kind", "_links", "_name", "_parent", "_span", "_token", "_tracer")

    def __init__(
        self,
        tracer: trace.Tracer,
        name: str,
        attributes: Attributes | None,
        kind: SpanKind,
        parent: Context | None,
        links: Sequence[Link],
    ) -> None:
        self._tracer, self._name, self._attributes = tracer, name, attributes
        self._kind, self._parent, self._links = kind, parent, links

    def __enter__(self) -> Span:
        self._span = self._tracer.start_span(
            self._name,
            self._parent,
            kind=self._kind,
            attributes=self._attributes,
            links=self._links,
            record_exception=False,
            set_status_on_exception=False,
        )
        self._token = otel_context.attach(trace.set_span_in_context(self._span, self._parent))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            fail(self._span, str(getattr(error, "code", type(error).__name__)))
        self._span.end()
        with suppress(ValueError):  # a stream that is closed by another task than began it
            self._token.var.reset(self._token)


class _Off:
    """The context of a span while tracing is off."""

    def __enter__(self) -> Span:
        return trace.INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        return None


_OFF = _Off()


def fail(span: Span, reason: str) -> None:
    """Mark a span as failed, by a word of ours."""
    span.set_attribute("error.type", reason)
    span.set_status(Status(StatusCode.ERROR))


def traceparent() -> str | None:
    """Return the current span for a row or a message that somebody else continues from."""
    carrier: dict[str, str] = {}
    _FORMAT.inject(carrier)
    return carrier.get("traceparent")


def caller_context(header: str | None) -> Context:
    """Return a context that continues a caller's trace, and takes nothing else from it."""
    return _FORMAT.extract({"traceparent": header} if header else {}, context=Context())


def links_to(header: str | None) -> list[Link]:
    """Return a link to the span that a stored `traceparent` names; empty when it names none."""
    there = trace.get_current_span(caller_context(header)).get_span_context()
    return [Link(there)] if there.is_valid else []


def ids() -> tuple[str, str] | None:
    """Return the current trace's and span's id in hexadecimal, None outside of a span."""
    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return None
    return trace.format_trace_id(here.trace_id), trace.format_span_id(here.span_id)


class _Named(SpanProcessor):
    """Puts the tenant and the request's id on each span of ours."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        """Take the tenant from our own baggage, the id from the request."""
        tenant = baggage.get_baggage(TENANT_KEY, parent_context)
        facts = requests.current()
        if tenant is None and facts is not None:
            tenant = facts.tenant_id
        if tenant is None:  # where vendors are called, there is no baggage
            above = getattr(trace.get_current_span(parent_context), "attributes", None)
            tenant = (above or {}).get(TENANT_KEY)
        if tenant is not None:
            span.set_attribute(TENANT_KEY, str(tenant))
        if facts is not None:
            span.set_attribute("request_id", facts.request_id)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing is left to say."""


@asynccontextmanager
async def tracing(how: Tracing | None, exporter: SpanExporter | None = None) -> AsyncIterator[None]:
    """Record spans while the context lasts, and send them in the background.

    A collector that is away costs the spans that do not fit the queue, and at the end of the
    process at most two seconds. `exporter` stands in for the network (tests, notebooks).
    """
    if how is None or _State.tracer is not None:  # one per process: a second service joins in
        yield
        return
    exporter = exporter or _exporter(how.endpoint)
    processor = BatchSpanProcessor(
        exporter, max_queue_size=_MOST_WAITING_SPANS, schedule_delay_millis=1_000
    )
    resource = Resource.create({SERVICE_NAME: "compliance-copilot", SERVICE_VERSION: how.version})
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(how.ratio)),
        resource=resource,
        shutdown_on_exit=False,
    )
    provider.add_span_processor(_Named())
    provider.add_span_processor(processor)
    with _current(provider.get_tracer("compliance_copilot", how.version), content=how.content):
        try:
            yield
        finally:
            await asyncio.to_thread(_close, processor, exporter)


@contextmanager
def _current(tracer: trace.Tracer, *, content: bool) -> Iterator[None]:
    _State.tracer, _State.content = tracer, content
    try:
        yield
    finally:
        _State.tracer, _State.content = None, False


def _exporter(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    secure = endpoint.startswith("https://")
    return OTLPSpanExporter(endpoint=endpoint, insecure=not secure, timeout=_EXPORT_SECONDS)


def _close(processor: BatchSpanProcessor, exporter: SpanExporter) -> None:
    """Send what waits; whoever does not take it in time is left."""
    giving_up = threading.Timer(_FAREWELL_SECONDS, exporter.shutdown)
    giving_up.daemon = True
    giving_up.start()
    processor.shutdown()  # type: ignore[no-untyped-call]
    giving_up.cancel()
