"""The whole service with a collector behind it: one connected trace for each question."""

from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service, working
from tests.conftest import ADMIN_KEY, Customer, make_customer
from tests.isolation.conftest import policy_of
from tests.standins.collector import Collector, Received, running_collector
from tests.standins.running import RunningProvider

QUESTION = {"query": "How long are customer records kept?"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = {
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "tracestate": "vendor=alpha-secret",
    "baggage": "tenant_id=beta,account=alpha-secret",
}


class World:
    """The application, its collector, its vendor, a client and a customer."""

    def __init__(self, settings: Settings, vendor: RunningProvider) -> None:
        self.settings, self.vendor = settings, vendor
        self.collector = Collector()

    async def ask(self, **headers: str) -> httpx.Response:
        return await self.client.post(
            "/query", json=QUESTION, headers={**self.customer.headers, **headers}
        )

    client: httpx.AsyncClient
    customer: Customer
    service: Service


@pytest.fixture
async def world(
    settings: Settings, provider: RunningProvider, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    with running_collector() as collector:
        update = {
            "otlp_endpoint": collector.url,
            **provider.openai_settings(),
            "trace_content": getattr(request, "param", False),
        }
        world = World(settings.model_copy(update=update), provider)
        world.collector = collector
        opener = partial(open_service, world.settings)
        application = build_application(opener, lambda: Deployment("test", None))
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://copilot") as client:
            world.client = client
            async with application.router.lifespan_context(application):
                service = world.service = application.state.gateway.service
                world.customer = await make_customer(
                    service, "alpha", config={"model_tier": "gpt-4"}
                )
                await service.copilot.ingest("alpha", [policy_of("alpha")])
                yield world


async def sent(world: World, name: str) -> list[Received]:
    """Return the trace with this span, once it is whole."""
    from tests.telemetry.waiting import until

    def whole() -> bool:
        return any(span.name == name for span in world.collector.spans)

    await until(whole)
    return world.collector.trace_with(name)


async def test_a_question_is_one_connected_trace(world: World) -> None:
    calls = len(world.vendor.calls())
    reply = await world.ask(**CALLER)
    assert reply.status_code == 200, reply.text
    spans = await sent(world, "POST /query")
    by_name = {span.name.split(" ")[0]: span for span in spans}
    assert set(by_name) == {
        "POST", "admission", "retrieve", "embed", "search", "generate", "verify", "settle",
    }  # fmt: skip
    assert {span.trace_id for span in spans} == {TRACE}, "the caller's trace is continued"
    ids = {span.span_id for span in spans} | {"b7ad6b7169203331"}
    assert all(span.parent_id in ids for span in spans)
    assert by_name["embed"].parent_id == by_name["retrieve"].span_id
    assert {span.attributes["tenant_id"] for span in spans} == {"alpha"}
    assert {span.attributes["request_id"] for span in spans} == {reply.headers["X-Request-ID"]}
    usage = reply.json()["metadata"]
    generated = by_name["generate"].attributes
    assert generated["gen_ai.provider.name"] == "openai"
    assert generated["gen_ai.operation.name"] == "chat"
    assert generated["gen_ai.usage.output_tokens"] == usage["output_tokens"] > 0
    assert generated["gen_ai.response.model"] == usage["provider_model"]
    (call,) = world.vendor.calls()[calls:]
    assert "alpha-secret" not in str(call)
    assert "baggage" not in str(call).lower()


async def test_no_text_of_question_document_or_answer_is_in_a_trace(world: World) -> None:
    reply = await world.ask()
    assert "canaryalpha" in reply.text
    await sent(world, "POST /query")
    raw = "".join(world.collector.raw)
    for words in ("customer records", "canary", "seven years", world.customer.key):
        assert words not in raw


@pytest.mark.parametrize("world", [True], indirect=True)
async def test_content_is_in_traces_when_it_is_switched_on(world: World) -> None:
    await world.ask()
    spans = await sent(world, "POST /query")
    (generated,) = [span for span in spans if span.name.startswith("generate")]
    assert "customer records" in generated.attributes["gen_ai.input.messages"]
    assert "canaryalpha" in generated.attributes["gen_ai.output.messages"]


async def test_each_attempt_is_a_span_and_a_failed_one_says_so(world: World) -> None:
    world.vendor.fault("500")
    reply = await world.ask()
    assert reply.json()["metadata"]["fallback"]["answered"] == "extractive"
    spans = await sent(world, "POST /query")
    attempts = [span for span in spans if span.name.startswith("generate")]
    assert len(attempts) >= 2
    assert attempts[0].line.failed
    assert not attempts[-1].line.failed
    assert attempts[-1].attributes["gen_ai.provider.name"] == "local"


async def test_a_refused_request_is_a_trace_of_its_own(world: World) -> None:
    refused = await world.client.post("/query", json=QUESTION, headers={"X-API-Key": "nobody's"})
    assert refused.status_code == 401
    (span,) = await sent(world, "POST /query")
    assert span.attributes["http.response.status_code"] == 401
    assert "tenant_id" not in span.attributes


async def test_an_ingest_is_one_connected_trace(world: World) -> None:
    body = {"documents": [{"text": "# Visitors\n\nVisitors sign in."}]}
    done = await world.client.post("/ingest", json=body, headers=world.customer.headers)
    assert done.status_code == 200, done.text
    spans = await sent(world, "POST /ingest")
    names = {span.name for span in spans}
    assert {"POST /ingest", "admission", "cut", "embed", "store", "settle"} <= names
    assert "sign in" not in "".join(world.collector.raw)


async def test_a_job_is_a_trace_of_its_own_linked_to_the_upload_that_asked_for_it(
    world: World, settings: Settings
) -> None:
    files = {"files": ("visitors.md", b"# Visitors\n\nVisitors sign in.")}
    headers = {**world.customer.headers, "traceparent": CALLER["traceparent"]}
    taken = await world.client.post("/ingest/files", files=files, headers=headers)
    assert taken.status_code == 202, taken.text
    async with working(world.service, settings):
        spans = await sent(world, "job")
    by_name = {span.name: span for span in spans}
    assert by_name["job"].links == (TRACE,)
    assert {TRACE} != {span.trace_id for span in spans}
    assert {"job", "admission", "store", "settle"} <= set(by_name)


async def test_a_dead_collector_fails_no_question(settings: Settings) -> None:
    deaf = settings.model_copy(update={"otlp_endpoint": "http://127.0.0.1:9"})
    async with open_service(deaf) as service:
        await make_customer(service, "alpha")
        await service.copilot.ingest("alpha", [policy_of("alpha")])
        reply = await service.copilot.query("alpha", QUESTION["query"])
    assert reply.citations


async def test_metrics_are_for_the_operator_and_count_the_question(world: World) -> None:
    await world.ask()
    await world.ask()
    operator = {"Authorization": f"Bearer {ADMIN_KEY}"}
    told = await world.client.get("/metrics", headers=operator)
    assert told.status_code == 200
    assert told.headers["content-type"].startswith("text/plain")
    lines = told.text.splitlines()
    for start in (
        'copilot_http_requests_total{method="POST",route="/query",status="200"}',
        'copilot_operations_total{operation="query",outcome="answered",tenant="alpha"}',
        'copilot_admissions_total{operation="query",tenant="alpha",verdict="admitted"}',
        'copilot_tokens_total{direction="output",model=',
        "copilot_cost_micro_usd_total{model=",
        'copilot_http_request_own_seconds_bucket{le="0.05",route="/query"}',
        'copilot_settlement_seconds_count{way="database"}',
        'copilot_sentences_total{support="supported"}',
        "copilot_database_connections{",
        'copilot_cache_lookups_total{result="miss",tenant="alpha"}',
        'copilot_cache_lookups_total{result="hit",tenant="alpha"}',
        'copilot_jobs{state="queued"}',
        'copilot_jobs_oldest_seconds{state="queued"}',
    ):
        assert any(line.startswith(start) for line in lines), start
    assert (await world.client.get("/metrics")).status_code == 401
    tenant = await world.client.get("/metrics", headers=world.customer.headers)
    assert tenant.status_code == 403
