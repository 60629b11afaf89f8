"""What every generator promises, kept by all three; the hosted ones over HTTP."""

import json
from collections.abc import AsyncIterator

import pytest

from compliance_copilot.adapters.anthropic_generator import AnthropicGenerator
from compliance_copilot.adapters.extractive_generator import ExtractiveGenerator
from compliance_copilot.adapters.openai_generator import OpenAIGenerator
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.vocabulary import DraftSentence, GenerationEnd, Outcome
from compliance_copilot.rag.answering import assemble
from compliance_copilot.rag.ports import GenerationRequest, Generator
from tests.standins.running import RunningProvider
from tests.unit.sources import source

SECRET = "sk-test-0123456789"
TENANT = "acme_corp"
QUESTION = "How long are backups of customer data kept?"
SOURCES = [
    source(
        "Backups of customer data are kept for 35 days. Restores are tested.",
        start=500,
        title="Backup Policy",
    ),
    source("Visitors wear a badge. Doors close at night.", document="visitors", title="Site rules"),
]
REQUEST = GenerationRequest(QUESTION, SOURCES, "test-model", 500)
HOSTED = ["openai", "anthropic"]


@pytest.fixture(params=["extractive", *HOSTED])
async def generator(
    request: pytest.FixtureRequest, provider: RunningProvider
) -> AsyncIterator[Generator]:
    made = make(request.param, provider)
    yield made
    if not isinstance(made, ExtractiveGenerator):
        await made.aclose()


@pytest.fixture(params=HOSTED)
async def hosted(
    request: pytest.FixtureRequest, provider: RunningProvider
) -> AsyncIterator[Generator]:
    made = make(request.param, provider)
    yield made
    await made.aclose()


def make(
    kind: str, provider: RunningProvider
) -> ExtractiveGenerator | OpenAIGenerator | AnthropicGenerator:
    if kind == "openai":
        return OpenAIGenerator(SECRET, base_url=provider.openai_url)
    if kind == "anthropic":
        return AnthropicGenerator(SECRET, base_url=provider.url)
    return ExtractiveGenerator()


async def draft(
    generator: Generator, request: GenerationRequest = REQUEST, seconds: float = 30
) -> tuple[list[DraftSentence], GenerationEnd]:
    items = [item async for item in generator.generate(request, deadline=Deadline.after(seconds))]
    assert isinstance(items[-1], GenerationEnd)
    assert all(isinstance(item, DraftSentence) for item in items[:-1])
    return items[:-1], items[-1]  # type: ignore[return-value]


async def failure(generator: Generator, seconds: float = 10) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as caught:
        await draft(generator, seconds=seconds)
    assert caught.value.facts["provider"] == generator.provider
    return caught.value


# -- all three ---------------------------------------------------------------------------------


async def test_the_same_question_gets_the_same_citation_from_every_generator(
    generator: Generator,
) -> None:
    sentences, end = await draft(generator)
    found = assemble(sentences, SOURCES, question=QUESTION)
    assert found.answer.outcome is Outcome.ANSWERED
    assert found.answer.text == "Backups of customer data are kept for 35 days [1]."
    (citation,) = found.answer.citations
    assert (citation.source, citation.start, citation.end) == (0, 500, 546)
    assert end.provider_model
    assert not end.estimated


async def test_a_question_without_answer_ends_without_sentences(
    generator: Generator, provider: RunningProvider
) -> None:
    provider.fault("empty")
    sentences, end = await draft(
        generator, GenerationRequest("Who won the world cup?", SOURCES, "test-model", 500)
    )
    assert sentences == []
    assert end.finish_reason


async def test_no_source_is_no_error(generator: Generator) -> None:
    sentences, _ = await draft(generator, GenerationRequest(QUESTION, [], "test-model", 500))
    assert sentences == []


async def test_a_passed_deadline_calls_nobody(
    generator: Generator, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    with pytest.raises(DeadlineExceeded):
        await draft(generator, seconds=0)
    assert len(provider.calls()) == before


# -- the hosted ones ---------------------------------------------------------------------------


async def test_usage_and_response_id_equal_the_providers_log(
    hosted: Generator, provider: RunningProvider
) -> None:
    _, end = await draft(hosted)
    call = provider.calls()[-1]
    assert (end.usage.input_tokens, end.usage.output_tokens) == (
        call["input_tokens"],
        call["output_tokens"],
    )
    assert end.response_id == call["request_id"]


async def test_no_tenant_and_no_metadata_leave(
    hosted: Generator, provider: RunningProvider
) -> None:
    await draft(hosted)
    call = provider.calls()[-1]
    assert TENANT not in json.dumps(call)
    assert not {"user", "metadata", "safety_identifier", "prompt_cache_key"} & call["body"].keys()
    assert SECRET not in json.dumps(call)
    assert any("sha256:" in value for value in call["headers"].values())


async def test_sentences_come_before_the_stream_ends(
    hosted: Generator, provider: RunningProvider
) -> None:
    provider.fault("drip", seconds=0.01)
    stream = hosted.generate(REQUEST, deadline=Deadline.after(20))
    first = await anext(stream)
    assert isinstance(first, DraftSentence)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_one_call_is_one_request_even_when_it_fails(
    hosted: Generator, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    provider.fault("500")
    await failure(hosted)
    assert len(provider.calls()) == before + 1


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("429", "rate_limited"),
        ("500", "server_error"),
        ("503", "server_error"),
        ("529", "server_error"),
        ("401", "auth"),
        ("400", "bad_request"),
        ("bad_json", "bad_response"),
    ],
)
async def test_a_failure_is_named(
    hosted: Generator, provider: RunningProvider, mode: str, reason: str
) -> None:
    provider.fault(mode, seconds=7)
    error = await failure(hosted)
    assert error.facts["reason"] == reason
    assert error.facts.get("retry_after_seconds") == (
        7.0 if mode in ("429", "503", "529") else None
    )


@pytest.mark.parametrize("mode", ["blackhole", "headers", "delay", "drip"])
async def test_a_silent_provider_ends_with_the_deadline(
    hosted: Generator, provider: RunningProvider, mode: str
) -> None:
    provider.fault(mode, seconds=0.2 if mode == "drip" else 5)
    error = await failure(hosted, seconds=0.6)
    assert error.facts["reason"] == "timeout"


async def test_a_body_that_is_no_stream_is_a_failure(
    hosted: Generator, provider: RunningProvider
) -> None:
    provider.fault("garbage")
    assert (await failure(hosted)).facts["reason"] in ("bad_response", "interrupted")


async def test_a_cut_stream_is_interrupted_and_its_usage_estimated(
    hosted: Generator, provider: RunningProvider
) -> None:
    provider.fault("cut", after_bytes=1500)
    error = await failure(hosted)
    assert error.facts["reason"] == "interrupted"
    assert error.facts["estimated"] is True
    assert error.facts["usage"].input_tokens > 0
    assert error.facts["response_id"] == provider.calls()[-1]["request_id"]


@pytest.mark.parametrize("kind", HOSTED)
async def test_nobody_at_the_address_is_a_connect_failure(kind: str, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    made = (
        OpenAIGenerator(SECRET, base_url=f"{url}/v1")
        if kind == "openai"
        else AnthropicGenerator(SECRET, base_url=url)
    )
    assert (await failure(made)).facts["reason"] == "connect"
    await made.aclose()


async def test_prose_with_markers_is_matched_against_its_sources(
    hosted: Generator, provider: RunningProvider
) -> None:
    provider.fault("prose")
    sentences, _ = await draft(hosted)
    found = assemble(sentences, SOURCES, question=QUESTION)
    assert found.answer.text == "Backups of customer data are kept for 35 days [1]."


async def test_an_unsupported_sentence_of_a_model_is_dropped(
    hosted: Generator, provider: RunningProvider
) -> None:
    provider.fault("unsupported")
    found = assemble((await draft(hosted))[0], SOURCES, question=QUESTION)
    assert found.answer.outcome is Outcome.PARTIAL
    assert "2099" not in found.answer.text


async def test_a_server_without_schema_is_asked_in_text_from_the_next_call_on(
    hosted: Generator, provider: RunningProvider
) -> None:
    provider.fault("no_schema")
    assert (await failure(hosted)).facts["reason"] == "schema_refused"
    sentences, _ = await draft(hosted)
    assert sentences


async def test_an_answer_cut_at_its_token_limit_keeps_its_whole_sentences(
    hosted: Generator,
) -> None:
    _, end = await draft(hosted, GenerationRequest(QUESTION, SOURCES, "test-model", 10))
    assert end.finish_reason in ("length", "max_tokens")
    assert end.usage.output_tokens == 10


async def test_a_stream_without_usage_is_counted_and_marked(provider: RunningProvider) -> None:
    provider.fault("no_usage")
    made = OpenAIGenerator(SECRET, base_url=provider.openai_url)
    _, end = await draft(made)
    await made.aclose()
    assert end.estimated
    assert end.usage.output_tokens == provider.calls()[-1]["output_tokens"]
