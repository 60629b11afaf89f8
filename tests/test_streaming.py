"""An answer told while it is made: the same reply as without a stream, and the same money."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from compliance_copilot.core.errors import InvalidRequest, ModelUnavailable
from compliance_copilot.core.events import Cited, Delta, Done, Event, Sources
from compliance_copilot.core.replies import query_body
from compliance_copilot.core.vocabulary import NewDocument, QueryReply
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_service
from tests.conftest import Customer, make_customer
from tests.standins.running import RunningProvider

QUESTION = "How long are customer records kept?"
POLICIES = [
    NewDocument("# Retention\n\nCustomer records are kept for seven years.", "retention"),
    NewDocument("# Archive\n\nCustomer records are kept encrypted in the archive.", "archive"),
    NewDocument("# Cards\n\nCustomer records are kept for five years.", "cards"),
]
OPENAI = "/v1/chat/completions"


@pytest.fixture
async def hosted(settings: Settings, provider: RunningProvider) -> AsyncIterator[Service]:
    update = {
        **provider.openai_settings(),
        **provider.anthropic_settings(),
    }
    async with open_service(settings.model_copy(update=update)) as service:
        await make_customer(service, "acme", config={"model_tier": "gpt-4", "cache": False})
        await service.copilot.ingest("acme", POLICIES)
        yield service


async def rows(service: Service) -> list[Any]:
    events, _ = await service.copilot.usage.list("acme")
    return [e for e in reversed(events) if e.operation == "query"]


async def told(service: Service, **options: Any) -> list[Event]:
    return [event async for event in service.copilot.stream("acme", QUESTION, **options)]


def put_together(events: list[Event]) -> tuple[str, list[Any], list[Any]]:
    (sources,) = [event.sources for event in events if isinstance(event, Sources)]
    text = "".join(event.text for event in events if isinstance(event, Delta))
    return text, list(sources), [event.citation for event in events if isinstance(event, Cited)]


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - another task's work is waited for
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("tier", ["gpt-4", "claude", "extractive"])
async def test_the_stream_is_the_reply(
    hosted: Service, provider: RunningProvider, tier: str
) -> None:
    asked = {"override_config": {"model_tier": tier}}
    for unsupported in ("drop", "mark"):
        await hosted.config.update_tenant_config("acme", unsupported=unsupported)
        for mode in ("normal", "unsupported", "unverifiable", "empty", "prose"):
            provider.fault(mode)
            whole = await hosted.copilot.query("acme", QUESTION, **asked)
            events = await told(hosted, **asked)
            done = events[-1]
            assert isinstance(done, Done)
            assert isinstance(done.reply, QueryReply)
            expected = (whole.answer, list(whole.sources), list(whole.citations))
            assert put_together(events) == expected, (mode, unsupported)
            assert told_of(whole) == told_of(done.reply), (mode, unsupported)
    groups = by_request(await rows(hosted))
    for whole_rows, streamed_rows in zip(groups[::2], groups[1::2], strict=True):
        assert booked(whole_rows) == booked(streamed_rows)


def told_of(reply: QueryReply) -> dict[str, Any]:
    """Return a reply without what differs from one request to the next."""
    body = query_body(reply)
    differing = ("request_id", "latency_ms")
    told = {n: v for n, v in body["metadata"].items() if n not in differing}
    return {**body, "metadata": told}


def booked(group: list[Any]) -> list[Any]:
    return [(r.attempt, r.provider, r.outcome, r.input_tokens, r.cost_micro_usd) for r in group]


def by_request(events: list[Any]) -> list[list[Any]]:
    groups: dict[str, list[Any]] = {}
    for event in events:
        groups.setdefault(str(event.request_id), []).append(event)
    return list(groups.values())


@pytest.mark.parametrize("tier", ["gpt-4", "claude"])
async def test_sentences_are_told_while_the_model_still_speaks(
    hosted: Service, provider: RunningProvider, tier: str
) -> None:
    provider.fault("drip", seconds=0.005)
    stream = hosted.copilot.stream("acme", QUESTION, override_config={"model_tier": tier})
    assert isinstance(await anext(stream), Sources)
    assert isinstance(await anext(stream), Delta)
    assert (await rows(hosted))[0].state == "reserved", "the model has not ended"
    rest = [event async for event in stream]
    assert isinstance(rest[-1], Done)
    assert (await rows(hosted))[0].state == "settled"


async def test_a_failure_before_the_first_sentence_is_seen_by_nobody(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("cut", after_bytes=900, path=OPENAI)
    events = await told(hosted)
    done = events[-1]
    assert isinstance(done, Done)
    assert isinstance(done.reply, QueryReply)
    assert done.reply.metadata.fallback["reason"] == "interrupted"
    assert put_together(events)[0] == done.reply.answer


async def test_after_a_shown_sentence_a_failure_ends_the_stream_with_its_name(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("cut", after_bytes=3300, path=OPENAI)
    seen: list[Event] = []

    async def follow() -> None:
        async for event in hosted.copilot.stream("acme", QUESTION):
            seen.append(event)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(ModelUnavailable) as caught:
        await follow()
    assert caught.value.facts["reason"] == "interrupted"
    assert any(isinstance(event, Delta) for event in seen)
    assert not any(isinstance(event, Done) for event in seen)
    row = (await rows(hosted))[-1]
    assert (row.outcome, row.state, row.estimated) == ("interrupted", "settled", True)
    assert row.input_tokens > 0


async def test_a_reader_who_leaves_is_billed_what_the_provider_counted(
    hosted: Service, provider: RunningProvider
) -> None:
    provider.fault("drip", seconds=0.002)
    stream = hosted.copilot.stream("acme", QUESTION)
    assert isinstance(await anext(stream), Sources)
    await stream.aclose()

    async def settled() -> bool:
        return [row.state for row in await rows(hosted)] == ["settled"]

    await until(settled)
    (row,) = await rows(hosted)
    call = provider.calls()[-1]
    assert (row.input_tokens, row.output_tokens) == (call["input_tokens"], call["output_tokens"])
    assert not row.estimated


async def test_beyond_the_time_for_draining_tokens_are_counted_here(
    settings: Settings, provider: RunningProvider
) -> None:
    update = {
        **provider.openai_settings(),
        "stream_drain_seconds": 0.0,
    }
    async with open_service(settings.model_copy(update=update)) as service:
        await make_customer(service, "acme", config={"model_tier": "gpt-4"})
        await service.copilot.ingest("acme", POLICIES)
        provider.fault("drip", seconds=0.2)
        stream = service.copilot.stream("acme", QUESTION)
        await anext(stream)
        before = len(provider.calls())
        await until(lambda: _more(provider, before))
        await stream.aclose()

        async def settled() -> bool:
            return [row.state for row in await rows(service)] == ["settled"]

        await until(settled)
        (row,) = await rows(service)
        assert (row.outcome, row.estimated) == ("interrupted", True)
        assert row.input_tokens > 0
    provider.fault("normal")


async def _more(provider: RunningProvider, before: int) -> bool:
    await asyncio.sleep(0.3)
    return len(provider.calls()) >= before


async def test_what_is_refused_is_refused_before_any_event(hosted: Service) -> None:
    with pytest.raises(InvalidRequest):
        await told(hosted, override_config={"top_k": 0})
    with pytest.raises(InvalidRequest):
        await anext(hosted.copilot.stream("acme", " "))


# -- over HTTP ---------------------------------------------------------------------------------


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def given() -> AsyncIterator[Service]:
        yield service

    application = build_application(given, lambda: Deployment("test", ""))
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=transport, base_url="http://copilot") as client,
    ):
        yield client


@pytest.fixture
async def beta(hosted: Service) -> Customer:
    customer = await make_customer(hosted, "beta", config={"model_tier": "gpt-4", "cache": False})
    await hosted.copilot.ingest("beta", POLICIES)
    return customer


def events_of(reply: httpx.Response) -> list[tuple[str, Any]]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in reply.text.strip().split("\n\n"):
        event, data = block.split("\n")
        found.append((event.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


def collected(events: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the reply that the events make."""
    assert [name for name, _ in events[:1] + events[-1:]] == ["sources", "done"]
    return {
        "answer": "".join(data["text"] for name, data in events if name == "delta"),
        "sources": events[0][1]["sources"],
        "citations": [data for name, data in events if name == "citation"],
        **events[-1][1],
    }


async def test_over_http_the_events_make_the_reply_and_a_repeat_gives_the_same_events(
    hosted: Service, beta: Customer
) -> None:
    async with served(hosted) as client:
        headers = {**beta.headers, "Idempotency-Key": "one"}
        body = {"query": QUESTION, "stream": True}
        first = await client.post("/query", json=body, headers=headers)
        repeat = await client.post("/query", json=body, headers=headers)
        plain = await client.post("/query", json={"query": QUESTION}, headers=headers)
        fresh = await client.post("/query", json={"query": QUESTION}, headers=beta.headers)
    made = collected(events_of(first))
    assert collected(events_of(repeat)) == made == plain.json()
    assert repeat.headers["Idempotency-Replayed"] == plain.headers["Idempotency-Replayed"] == "true"
    assert repeat.headers["X-Request-ID"] == first.headers["X-Request-ID"]
    other = fresh.json()
    for reply in (made, other):
        for name in ("request_id", "latency_ms"):
            del reply["metadata"][name]
    assert made == other


async def test_over_http_an_early_error_is_a_problem_and_a_late_one_an_event(
    hosted: Service, beta: Customer, provider: RunningProvider
) -> None:
    async with served(hosted) as client:
        body = {"query": QUESTION, "stream": True}
        early = await client.post("/query", json={**body, "top_k": 0}, headers=beta.headers)
        nobody = await client.post("/query", json=body)
        provider.fault("cut", after_bytes=3300, path=OPENAI)
        late = await client.post("/query", json=body, headers=beta.headers)
    assert (early.status_code, nobody.status_code) == (422, 401)
    assert early.headers["content-type"] == "application/problem+json"
    events = events_of(late)
    name, problem = events[-1]
    assert (name, problem["code"], problem["status"]) == ("error", "model_unavailable", 502)
    assert problem["request_id"] == late.headers["X-Request-ID"]
    assert "delta" in [name for name, _ in events]


async def test_limited_mode_is_the_one_done_event(settings: Settings) -> None:
    named = settings.model_copy(update={"generation_provider": "openai"})
    skipped = {"skipped": True, "reason": "Service not initialized: OPENAI_API_KEY is not set"}
    body = {"query": QUESTION, "stream": True}
    async with open_service(named) as service, served(service) as client:
        customer = await make_customer(service, "acme")
        reply = await client.post("/query", json=body, headers=customer.headers)
        assert events_of(reply) == [("done", skipped)]
        assert (await client.post("/query", json=body)).status_code == 401
    asleep = httpx.ASGITransport(build_application(lambda: open_service(named)))
    async with httpx.AsyncClient(transport=asleep, base_url="http://copilot") as client:
        waiting = {"Accept": "text/event-stream"}
        reply = await client.post("/query", json=body, headers=waiting)
        assert [name for name, _ in events_of(reply)] == ["done"]
        assert (await client.post("/query", json=body)).json()["skipped"] is True


async def test_the_stream_is_described(hosted: Service) -> None:
    async with served(hosted) as client:
        document = (await client.get("/openapi.json")).json()
    content = document["paths"]["/query"]["post"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/event-stream"}
    assert "delta" in content["text/event-stream"]["schema"]["description"]
