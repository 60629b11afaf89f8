"""Spans as a collector gets them: connected, named after the tenant, without anybody's words."""

import asyncio
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context

from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.telemetry import requests, tracing
from compliance_copilot.telemetry.tracing import Tracing, span
from compliance_copilot.tenancy.context import TenantContext
from tests.standins.collector import Collector, drawn, running_collector

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as collector:
        yield collector


async def test_one_trace_stays_connected_over_tasks_and_executors(collector: Collector) -> None:
    def in_a_thread() -> None:
        with span("thread"):
            pass

    async def in_a_task() -> None:
        with span("task"):
            await asyncio.to_thread(in_a_thread)

    async with tracing.tracing(Tracing(collector.url)):
        with requests.entered("r-1"), TenantContext.bind(TenantId("acme")), span("request"):
            await asyncio.create_task(in_a_task())
            with ThreadPoolExecutor(1) as pool:
                context = copy_context()
                await asyncio.wrap_future(pool.submit(context.run, in_a_thread))
        with span("another"):
            pass
    spans = collector.trace_with("request")
    assert sorted(s.name for s in spans) == ["request", "task", "thread", "thread"]
    assert len(collector.traces()) == 2
    assert {s.attributes["tenant_id"] for s in spans} == {"acme"}
    assert {s.attributes["request_id"] for s in spans} == {"r-1"}
    shown = drawn(spans).splitlines()
    assert [line.lstrip("│├└─ ").split()[0] for line in shown] == [
        "request", "task", "thread", "thread"
    ]  # fmt: skip
    assert "tenant_id" not in next(iter(collector.trace_with("another"))).attributes


async def test_an_error_marks_its_span_by_its_type_and_says_nothing(collector: Collector) -> None:
    async with tracing.tracing(Tracing(collector.url)):
        with pytest.raises(ValueError, match="policy"), span("work"):
            raise ValueError("the text of a policy")
    (work,) = collector.spans
    assert work.line.failed
    assert work.attributes["error.type"] == "ValueError"
    assert "policy" not in "".join(collector.raw)


async def test_a_stored_traceparent_becomes_a_link(collector: Collector) -> None:
    async with tracing.tracing(Tracing(collector.url)):
        with span("upload"):
            stored = tracing.traceparent()
        with span("job", links=tracing.links_to(stored), parent=otel_context.Context()):
            pass
    (job,) = collector.trace_with("job")
    (upload,) = collector.trace_with("upload")
    assert job.links == (upload.trace_id,)
    assert tracing.links_to("nonsense") == []
    assert tracing.links_to(None) == []


def test_of_a_caller_only_the_trace_is_taken_over() -> None:
    here = tracing.caller_context(CALLER)
    there = trace.get_current_span(here).get_span_context()
    assert trace.format_trace_id(there.trace_id) == CALLER.split("-")[1]
    assert not there.trace_state
    with TenantContext.bind(TenantId("acme")):
        assert baggage.get_all(tracing.caller_context(CALLER)) == {}
    assert not trace.get_current_span(tracing.caller_context(None)).get_span_context().is_valid


def test_off_a_span_is_nothing() -> None:
    with span("unheard") as heard:
        heard.set_attribute("a", 1)
        assert not heard.is_recording()
    assert tracing.traceparent() is None


@pytest.mark.parametrize("hole", ["dead", "black"])
async def test_a_collector_that_is_away_holds_nobody_up(hole: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if hole == "black":
            listener.listen(1)  # takes the connection and never says a word
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with tracing.tracing(Tracing(url)):
            for _ in range(10_000):  # more than the queue takes
                with span("work"):
                    pass
            left = time.monotonic()
        assert time.monotonic() - left < 20, "the farewell is bounded"
    assert not tracing.is_on()
