"""Each point at which a provider can fail: the outcome, the attempts, the rows, the fallback."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from compliance_copilot.adapters.anthropic_generator import AnthropicGenerator
from compliance_copilot.adapters.extractive_generator import ExtractiveGenerator
from compliance_copilot.adapters.openai_generator import OpenAIGenerator
from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import BudgetExhausted, DeadlineExceeded, ModelUnavailable
from compliance_copilot.core.vocabulary import DraftSentence, ModelTier
from compliance_copilot.rag.attempting import Link, Settled
from compliance_copilot.rag.breaker import BreakerPolicy, Breakers, State
from compliance_copilot.rag.ports import GenerationRequest
from compliance_copilot.rag.resilience import Finished, Policy, Resilient
from tests.standins import model, wire
from tests.standins.running import RunningProvider
from tests.unit.sources import source

SOURCES = [source("Backups of customer data are kept for 35 days.")]
LOCAL = Link(ModelTier.EXTRACTIVE, ExtractiveGenerator(), "extractive-1")


def request(link: Link) -> GenerationRequest:
    return GenerationRequest(
        "How long are backups of customer data kept?", SOURCES, link.model, 500
    )


@dataclass
class Rows:
    """A ledger in memory that knows how many calls the provider had seen at each begin."""

    calls: Callable[[], int]
    begun: list[tuple[str, str, int]] = field(default_factory=list)
    settled: dict[int, Settled] = field(default_factory=dict)
    refuse_after: int = 99

    async def begin(self, link: Link) -> None:
        if len(self.begun) >= self.refuse_after:
            raise BudgetExhausted(limit="monthly_budget_usd")
        self.begun.append((link.generator.provider, link.model, self.calls()))

    def ended(self, link: Link, settled: Settled) -> None:
        assert (link.generator.provider, link.model) == self.begun[-1][:2]
        assert len(self.begun) - 1 not in self.settled
        self.settled[len(self.begun) - 1] = settled

    @property
    def outcomes(self) -> list[str]:
        assert sorted(self.settled) == list(range(len(self.begun)))
        return [self.settled[n].outcome for n in sorted(self.settled)]


@pytest.fixture
async def links(provider: RunningProvider) -> AsyncIterator[list[Link]]:
    openai = OpenAIGenerator("sk-x", base_url=provider.openai_url)
    anthropic = AnthropicGenerator("sk-y", base_url=provider.url)
    await openai.warm()
    await anthropic.warm()
    yield [Link(ModelTier.GPT4, openai, "gpt"), Link(ModelTier.CLAUDE, anthropic, "claude"), LOCAL]
    await openai.aclose()
    await anthropic.aclose()


@pytest.fixture
def rows(provider: RunningProvider) -> Rows:
    return Rows(lambda: len(provider.calls()))


def resilient(**breaker: float) -> Resilient:
    return Resilient(Breakers(BreakerPolicy(**breaker)), Policy(first_wait_seconds=0.01))  # type: ignore[arg-type]


async def answered(
    chain: list[Link],
    rows: Rows,
    by: Resilient | None = None,
    *,
    seconds: float = 5,
) -> Finished:
    drafted: list[str] = []

    def take(item: Link | DraftSentence) -> None:
        if isinstance(item, Link):
            drafted.clear()  # what an attempt before had drafted was in vain
        else:
            drafted.append(item.text)

    by = by or resilient()
    done = await by.draft(chain, request, take, rows, deadline=Deadline.after(seconds))
    assert drafted == ["Backups of customer data are kept for 35 days."]
    return done


async def test_a_healthy_provider_is_called_once(links: list[Link], rows: Rows) -> None:
    done = await answered(links, rows)
    assert (done.link.model, rows.outcomes) == ("gpt", ["ok"])
    assert rows.settled[0].response_id == done.end.response_id


@pytest.mark.parametrize(
    ("mode", "outcomes"),
    [
        ("500", ["server_error", "server_error", "ok"]),
        ("503", ["server_error", "ok"]),  # Retry-After 60: no use in waiting
        ("429", ["rate_limited", "ok"]),
        ("401", ["auth", "ok"]),
        ("400", ["bad_request", "ok"]),
        ("bad_json", ["bad_response", "ok"]),
        ("garbage", ["interrupted", "ok"]),
        ("cut", ["interrupted", "ok"]),
        ("blackhole", ["timeout", "ok"]),
        ("headers", ["timeout", "ok"]),
        ("drip", ["timeout", "ok"]),
    ],
)
async def test_each_fault_falls_back_with_one_row_for_each_call(
    links: list[Link], rows: Rows, provider: RunningProvider, mode: str, outcomes: list[str]
) -> None:
    before = len(provider.calls())
    seconds = 60 if mode in ("429", "503") else 0.3
    provider.fault(mode, path="/v1/chat/completions", seconds=seconds, after_bytes=700)
    done = await answered([links[0], LOCAL], rows, seconds=2)
    assert rows.outcomes == outcomes
    assert done.link is LOCAL
    assert [tried.outcome for tried in done.tried] == outcomes
    hosted = [begun for begun in rows.begun if begun[0] == "openai"]
    assert len(provider.calls()) - before == len(hosted)
    assert [calls for _, _, calls in hosted] == list(range(before, before + len(hosted)))


async def test_nobody_at_the_address_falls_back(rows: Rows, unused_tcp_port: int) -> None:
    gone = OpenAIGenerator("sk-x", base_url=f"http://127.0.0.1:{unused_tcp_port}/v1")
    done = await answered([Link(ModelTier.GPT4, gone, "gpt"), LOCAL], rows)
    assert rows.outcomes == ["connect", "connect", "ok"]
    assert done.link is LOCAL
    await gone.aclose()


async def test_a_moment_of_weakness_is_retried_on_the_same_link(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("500", count=1)
    done = await answered(links, rows)
    assert (done.link.model, rows.outcomes) == ("gpt", ["server_error", "ok"])


async def test_retry_after_is_honoured(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    provider.fault("429", count=1, seconds=2)
    by = Resilient(Breakers(), Policy(), sleep=noted)
    await answered(links, rows, by)
    assert waits == [2.0]


async def test_the_chain_goes_on_to_another_provider(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("blackhole", path="/v1/chat/completions")
    done = await answered(links, rows, seconds=3)
    assert (done.link.model, rows.outcomes) == ("claude", ["timeout", "ok"])


async def test_a_server_without_schema_is_asked_again_in_text(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("no_schema")
    done = await answered(links, rows)
    assert (done.link.model, rows.outcomes) == ("gpt", ["schema_refused", "ok"])


async def test_a_dead_provider_costs_the_first_few_requests_their_timeout_only(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("blackhole", path="/v1/chat/completions")
    by = resilient(failures=2)
    before = len(provider.calls())
    for _ in range(6):
        await answered([links[0], LOCAL], rows, by, seconds=0.6)
    assert len(provider.calls()) - before == 2
    assert rows.outcomes == ["timeout", "ok"] * 2 + ["ok"] * 4


async def test_a_probe_finds_that_a_provider_is_back(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    now = [0.0]
    breakers = Breakers(BreakerPolicy(failures=1, open_seconds=10), now=lambda: now[0])
    by = Resilient(breakers, Policy(attempts=1))
    provider.fault("500", count=1)
    assert (await answered([links[0], LOCAL], rows, by)).link is LOCAL
    assert breakers.states() == {
        ("openai", "gpt", ""): State.OPEN,
        ("local", "extractive-1", ""): State.CLOSED,
    }
    assert (await answered([links[0], LOCAL], rows, by)).tried[0].outcome == "breaker_open"
    now[0] = 11.0
    assert (await answered([links[0], LOCAL], rows, by)).link is links[0]
    assert breakers.of(("openai", "gpt", "")).state is State.CLOSED


async def test_after_visible_output_there_is_no_other_attempt(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    await answered(links[:1], rows)
    body = provider.calls()[-1]["body"]
    reply = wire.said("standin-99", body, model.answer(wire.prompt_of(body), "normal"))
    *before_the_end, _finish, _usage, _done = wire.openai_events(reply, usage=True)
    rows.begun.clear()
    rows.settled.clear()
    after = len("".join(before_the_end)) + 20
    provider.fault("cut", path="/v1/chat/completions", after_bytes=after)
    taken: list[Link | DraftSentence] = []
    with pytest.raises(ModelUnavailable) as caught:
        await resilient().draft(
            links, request, taken.append, rows, deadline=Deadline.after(5), shown=lambda: True
        )
    assert [type(item) for item in taken] == [Link, DraftSentence]
    assert caught.value.facts["reason"] == "interrupted"
    assert rows.outcomes == ["interrupted"]
    assert rows.settled[0].usage.input_tokens > 0
    # The same cut before anything was shown goes on to the next.
    unstreamed = Rows(rows.calls)
    assert (await answered(links, unstreamed)).link.model == "claude"


async def test_a_reader_who_leaves_has_his_row_settled(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("drip", seconds=0.01)
    shown = asyncio.Event()

    def take(item: Link | DraftSentence) -> None:
        if isinstance(item, DraftSentence):
            shown.set()

    reading = asyncio.create_task(
        resilient().draft(
            links, request, take, rows, deadline=Deadline.after(5), shown=shown.is_set
        )
    )
    await shown.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert rows.outcomes == ["interrupted"]
    assert rows.settled[0].estimated


async def test_a_cancelled_call_is_settled_and_holds_no_probe(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("blackhole")
    task = asyncio.create_task(answered(links, rows))
    await asyncio.sleep(0.2)
    assert rows.begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rows.outcomes == ["interrupted"]


async def test_no_row_no_call(links: list[Link], rows: Rows, provider: RunningProvider) -> None:
    before = len(provider.calls())
    rows.refuse_after = 0
    with pytest.raises(BudgetExhausted):
        await answered(links, rows)
    assert len(provider.calls()) == before


async def test_a_chain_without_answer_names_the_last_reason(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("401")
    with pytest.raises(ModelUnavailable) as caught:
        await answered(links[:2], rows)
    assert caught.value.facts["reason"] == "auth"
    assert len(caught.value.facts["attempts"]) == 2  # type: ignore[arg-type]


async def test_everything_black_holed_ends_by_the_deadline(
    links: list[Link], rows: Rows, provider: RunningProvider
) -> None:
    provider.fault("blackhole")
    begun = time.monotonic()
    with pytest.raises((DeadlineExceeded, ModelUnavailable)):
        await answered(links[:2], rows, seconds=1)
    assert time.monotonic() - begun < 2  # the promise itself: deadline plus one second
    assert rows.outcomes == ["timeout", "timeout"]


async def test_no_time_calls_nobody(links: list[Link], rows: Rows) -> None:
    with pytest.raises(DeadlineExceeded):
        await answered(links, rows, seconds=0)
    assert rows.begun == []
