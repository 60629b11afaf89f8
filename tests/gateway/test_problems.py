"""Every failure has one status, one shape, and says nothing of the inside."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from compliance_copilot.core.errors import (
    BudgetExhausted,
    Conflict,
    CopilotError,
    DeadlineExceeded,
    LimitReached,
    ModelUnavailable,
    NotInitialized,
    SetupError,
    StoreUnavailable,
)
from compliance_copilot.gateway.problems import TABLE

QUESTION = {"query": "How is data encrypted?"}


def kinds(root: type[CopilotError] = CopilotError) -> Iterator[type[CopilotError]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("kind", sorted(set(kinds()) - {NotInitialized}, key=lambda k: k.__name__))
async def test_every_error_is_answered_with_its_own_status(kind, client, failing):
    failing(kind("in detail"))
    reply = await client.post("/query", json=QUESTION)
    assert kind.code in TABLE
    assert reply.status_code == TABLE[kind.code][0]
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert {"type", "code", "title", "status", "detail", "request_id"} <= set(body)
    assert body["type"] == f"urn:compliance-copilot:problem:{body['code']}"
    assert body["status"] == reply.status_code
    assert body["request_id"] == reply.headers["x-request-id"]
    assert UUID(body["request_id"]).version == 7


async def test_limited_mode_is_no_problem(client, failing):
    failing(NotInitialized("Service not initialized: OPENAI_API_KEY is not set"))
    reply = await client.post("/query", json=QUESTION)
    assert reply.status_code == 200
    assert reply.json() == {
        "skipped": True,
        "reason": "Service not initialized: OPENAI_API_KEY is not set",
    }


async def test_an_unexpected_error_tells_nothing_of_the_inside(client, failing):
    failing(RuntimeError("SELECT secret FROM somewhere"))
    reply = await client.post("/query", json=QUESTION)
    assert reply.status_code == 500
    assert reply.json()["code"] == "internal_error"
    assert "SELECT" not in reply.text
    assert reply.headers["x-request-id"] == reply.json()["request_id"]
    assert reply.headers["x-content-type-options"] == "nosniff"


async def test_a_limit_is_told_in_headers_and_body(client, failing):
    failing(
        LimitReached(
            "The limit is reached.",
            limit="max_queries_per_hour",
            quota=100,
            remaining=0,
            window_seconds=3600,
            retry_after_seconds=42,
        )
    )
    reply = await client.post("/query", json=QUESTION)
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "42"
    assert reply.headers["ratelimit-policy"] == '"hour";q=100;w=3600'
    assert reply.headers["ratelimit"] == '"hour";r=0;t=42'
    assert reply.json()["limit"] == "max_queries_per_hour"
    assert reply.json()["retry_after_seconds"] == 42


@pytest.mark.parametrize(
    ("facts", "policy", "state"),
    [
        (
            {"limit": "requests_per_minute", "quota": 100, "window_seconds": 60, "remaining": 0},
            '"minute";q=100;w=60',
            '"minute";r=0',
        ),
        (
            {"limit": "max_concurrent_requests", "quota": 5, "window_seconds": None},
            '"concurrent";q=5',
            '"concurrent";r=0',
        ),
        ({"limit": "monthly_budget_usd"}, None, '"month";r=0'),
    ],
)
async def test_each_limit_has_its_policy(facts, policy, state, client, failing):
    failing(BudgetExhausted("", **facts) if policy is None else LimitReached("", **facts))
    reply = await client.post("/query", json=QUESTION)
    assert reply.headers.get("ratelimit-policy") == policy
    assert reply.headers["ratelimit"] == state
    assert int(reply.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (StoreUnavailable(retry_after_seconds=3), 503, "3"),
        (StoreUnavailable(), 503, "1"),
        (Conflict("It is still running.", retry_after_seconds=0.2), 409, "1"),
        (Conflict("The id is taken."), 409, None),
        (ModelUnavailable(provider="openai", reason="timeout"), 502, None),
        (DeadlineExceeded(deadline_seconds=30), 504, None),
    ],
)
async def test_waiting_is_told_where_waiting_helps(error, status, wait, client, failing):
    failing(error)
    reply = await client.post("/query", json=QUESTION)
    assert (reply.status_code, reply.headers.get("retry-after")) == (status, wait)


async def test_facts_of_a_failing_dependency_are_named_and_no_others(client, failing):
    failing(ModelUnavailable(provider="openai", reason="timeout", url="http://inside"))
    body = (await client.post("/query", json=QUESTION)).json()
    assert (body["provider"], body["reason"]) == ("openai", "timeout")
    assert "url" not in body


async def test_an_error_that_has_no_status_of_its_own_keeps_its_detail_to_itself(client, failing):
    failing(SetupError("DATABASE_URL postgresql://inside does not answer", host="inside"))
    reply = await client.post("/query", json=QUESTION)
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    assert "inside" not in reply.text
