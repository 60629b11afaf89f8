"""What every embedder promises, kept by all three; the hosted one over HTTP."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from compliance_copilot.adapters.onnx_embedder import OnnxEmbedder
from compliance_copilot.adapters.openai_embedder import OpenAIEmbedder, batched
from compliance_copilot.adapters.wordllama_embedder import WordllamaEmbedder
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import DeadlineExceeded, ModelUnavailable, SetupError
from compliance_copilot.rag.ports import Embedder
from tests.standins.onnx_model import VECTORS, make_folder, write
from tests.standins.running import RunningProvider

SECRET = "sk-test-0123456789"
TEXTS = [
    "backups kept long days",
    "passwords",
    "visitors badges visitors badges visitors badges",
    "backups",
    "long passwords kept",
]
KINDS = ["wordllama", "onnx", "openai"]


@pytest.fixture(params=KINDS)
async def embedder(
    request: pytest.FixtureRequest, provider: RunningProvider, tmp_path: Path
) -> AsyncIterator[Embedder]:
    if request.param == "wordllama":
        yield WordllamaEmbedder()
    elif request.param == "onnx":
        yield OnnxEmbedder(make_folder(tmp_path / "tiny"))
    else:
        made = OpenAIEmbedder(SECRET, base_url=provider.openai_url)
        yield made
        await made.aclose()


@pytest.fixture
async def hosted(provider: RunningProvider) -> AsyncIterator[OpenAIEmbedder]:
    made = OpenAIEmbedder(SECRET, base_url=provider.openai_url)
    yield made
    await made.aclose()


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(seconds)


# -- all three ---------------------------------------------------------------------------------


async def test_vectors_have_length_one_and_come_in_the_order_of_the_texts(
    embedder: Embedder,
) -> None:
    together = (await embedder.embed(TEXTS, deadline=soon())).vectors
    assert together.shape == (len(TEXTS), embedder.dimensions)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
    for text, vector in zip(TEXTS, together, strict=True):
        alone = (await embedder.embed([text], deadline=soon())).vectors[0]
        assert alone == pytest.approx(vector, abs=1e-5)


async def test_the_same_text_is_nearest_to_itself(embedder: Embedder) -> None:
    vectors = (await embedder.embed(TEXTS, deadline=soon())).vectors
    assert (vectors @ vectors.T).argmax(axis=1).tolist() == list(range(len(TEXTS)))


async def test_no_text_is_no_vector_and_strange_texts_are_finite(embedder: Embedder) -> None:
    assert (await embedder.embed([], deadline=soon())).vectors.shape == (0, embedder.dimensions)
    strange = ["", " \n", "\N{GRINNING FACE}" * 5000, "\0", "x" * 50_000]
    vectors = (await embedder.embed(strange, deadline=soon())).vectors
    assert vectors.shape == (len(strange), embedder.dimensions)
    assert np.isfinite(vectors).all()


async def test_a_text_told_many_times_says_what_it_says_once() -> None:
    once = "visitors sign the list; visitors keep their badges, staff sign no list"
    texts = [once, " ".join([once] * 16), "badges once, visitors once, the list once"]
    one, many, other = (await WordllamaEmbedder().embed(texts, deadline=soon())).vectors
    assert np.allclose(one, many, atol=1e-6)
    assert not np.allclose(one, other, atol=1e-2)


async def test_provider_and_tokens_fit_together(embedder: Embedder) -> None:
    used = (await embedder.embed(TEXTS, deadline=soon())).input_tokens
    assert embedder.name
    assert (used == 0) == (embedder.provider == "local")


# -- the hosted one ----------------------------------------------------------------------------


async def test_tokens_equal_the_providers_log_over_several_calls(
    hosted: OpenAIEmbedder, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    texts = ["The same words again and again. " * 200] * 100
    embedded = await hosted.embed(texts, deadline=soon())
    calls = provider.calls()[before:]
    assert len(calls) > 1
    assert embedded.vectors.shape == (100, 1536)
    assert embedded.input_tokens == sum(call["input_tokens"] for call in calls) > 0
    assert sum(len(call["body"]["input"]) for call in calls) == len(texts)


def test_calls_stay_within_the_vendors_limits() -> None:
    texts = ["word"] * 5_000 + ["\N{GRINNING FACE}" * 8_000] * 60
    calls = list(batched(texts))
    assert sum(map(len, calls)) == len(texts)
    for call in calls:
        assert len(call) <= 2_048
        assert sum(len(text.encode()) for text in call) <= 300_000
        assert all(0 < len(text.encode()) <= 8_192 for text in call)


async def test_no_tenant_and_no_metadata_leave(
    hosted: OpenAIEmbedder, provider: RunningProvider
) -> None:
    from opentelemetry import baggage
    from opentelemetry import context as otel_context

    token = otel_context.attach(baggage.set_baggage("tenant_id", "acme_corp"))
    try:
        await hosted.embed(["backups"], deadline=soon())
        assert baggage.get_baggage("tenant_id") == "acme_corp"
    finally:
        otel_context.detach(token)
    call = provider.calls()[-1]
    assert "acme_corp" not in json.dumps(call)
    assert SECRET not in json.dumps(call)
    assert set(call["body"]) <= {"input", "model", "encoding_format"}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("429", "rate_limited"), ("500", "server_error"), ("503", "server_error"), ("401", "auth"),
     ("400", "bad_request"), ("garbage", "bad_response")],
)  # fmt: skip
async def test_a_failure_is_named_and_one_call_is_one_request(
    hosted: OpenAIEmbedder, provider: RunningProvider, mode: str, reason: str
) -> None:
    before = len(provider.calls())
    provider.fault(mode, seconds=7)
    with pytest.raises(ModelUnavailable) as caught:
        await hosted.embed(["backups"], deadline=soon())
    assert caught.value.facts["provider"] == "openai"
    assert caught.value.facts["reason"] == reason
    assert caught.value.facts.get("retry_after_seconds") == (
        7.0 if mode in ("429", "503") else None
    )
    assert len(provider.calls()) == before + 1


async def test_a_silent_provider_ends_with_the_deadline_and_a_passed_one_calls_nobody(
    hosted: OpenAIEmbedder, provider: RunningProvider
) -> None:
    provider.fault("blackhole")
    with pytest.raises(ModelUnavailable) as caught:
        await hosted.embed(["backups"], deadline=soon(0.6))
    assert caught.value.facts["reason"] == "timeout"
    before = len(provider.calls())
    with pytest.raises(DeadlineExceeded):
        await hosted.embed(["backups"], deadline=soon(0))
    assert len(provider.calls()) == before


async def test_a_failure_in_the_second_call_says_what_the_first_one_cost(
    hosted: OpenAIEmbedder, provider: RunningProvider
) -> None:
    before = len(provider.calls())
    texts = ["x" * 8_000] * 60
    provider.fault("delay", count=1, seconds=0)  # the first call is answered
    provider.fault("500")
    with pytest.raises(ModelUnavailable) as caught:
        await hosted.embed(texts, deadline=soon())
    answered, failed = provider.calls()[before:]
    assert len(answered["body"]["input"]) == len(next(iter(batched(texts)))) < len(texts)
    assert caught.value.facts["usage"].input_tokens == answered["input_tokens"] > 0
    assert not failed["charged"]


async def test_nobody_at_the_address_is_a_connect_failure(unused_tcp_port: int) -> None:
    made = OpenAIEmbedder(SECRET, base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    with pytest.raises(ModelUnavailable) as caught:
        await made.embed(["backups"], deadline=soon())
    assert caught.value.facts["reason"] == "connect"
    await made.aclose()


# -- the folder --------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
async def test_pooling_is_what_the_folder_says(tmp_path: Path, pooling: str) -> None:
    made = OnnxEmbedder(make_folder(tmp_path / "tiny", pooling=pooling))
    vector = (await made.embed(["backups kept long"], deadline=soon())).vectors[0]
    rows = VECTORS[[1, 3, 4]]
    pooled = {"mean": rows.mean(axis=0), "cls": rows[0], "max": rows.max(axis=0)}[pooling]
    assert vector == pytest.approx(pooled / np.linalg.norm(pooled), abs=1e-6)


async def test_a_text_is_cut_at_the_models_length(tmp_path: Path) -> None:
    made = OnnxEmbedder(make_folder(tmp_path / "tiny", max_length=2))
    long, short = (
        await made.embed(["backups kept days days", "backups kept"], deadline=soon())
    ).vectors
    assert long == pytest.approx(short)


async def test_other_weights_have_another_name(tmp_path: Path) -> None:
    one = OnnxEmbedder(make_folder(tmp_path / "a" / "tiny"))
    same = OnnxEmbedder(make_folder(tmp_path / "b" / "tiny"))
    other = OnnxEmbedder(make_folder(tmp_path / "c" / "tiny", pooling="max"))
    assert one.name == same.name != other.name


async def test_a_folder_that_cannot_be_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"ONNX_MODEL_DIR: there is no model\.onnx"):
        OnnxEmbedder(tmp_path / "empty")
    folder = make_folder(tmp_path / "dense")
    write(folder / "modules.json", [{"path": "2_Dense", "type": "sentence_transformers.Dense"}])
    with pytest.raises(SetupError, match="a Dense layer"):
        OnnxEmbedder(folder)
    broken = make_folder(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(SetupError, match="cannot be run"):
        OnnxEmbedder(broken).warm()
