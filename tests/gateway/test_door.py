"""Every reply carries its id and its headers, whatever became of the request."""

import asyncio
from contextlib import asynccontextmanager
from uuid import UUID

import httpx
import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs/assets/swagger-ui.css", 200),
        ("GET", "/whoami", 401),
        ("GET", "/nowhere", 404),
        ("GET", "/query/", 404),
        ("GET", "/docs/assets/nothing", 404),
        ("GET", "/query", 405),
    ],
)
async def test_every_reply_has_an_id_and_the_headers(method, path, status, anonymous):
    reply = await anonymous.request(method, path)
    assert reply.status_code == status
    assert UUID(reply.headers["x-request-id"]).version == 7
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    if status >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["request_id"] == reply.headers["x-request-id"]
    if not path.startswith("/docs"):
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/query", "POST"),
        ("/tenants", "GET, POST"),
        ("/tenants/acme_corp", "DELETE, GET, PATCH"),
        ("/documents/a", "DELETE, GET, PATCH"),
        ("/docs/assets/swagger-ui.css", "GET, HEAD"),
    ],
)
async def test_a_405_names_every_method_that_is_served(path, allowed, anonymous):
    reply = await anonymous.put(path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)
    assert reply.json()["code"] == "method_not_allowed"


async def test_a_clients_request_id_is_logged_and_not_taken_over(anonymous, caplog):
    caplog.set_level("INFO", "compliance_copilot.gateway")
    for theirs, logged in (("mine-1", "mine-1"), ("x" * 200, None), ("a\tb", None)):
        caplog.clear()
        reply = await anonymous.get("/health", headers={"X-Request-ID": theirs})
        assert reply.headers["x-request-id"] != theirs
        record = caplog.records[0]
        assert (record.client_request_id, record.status) == (logged, 200)
        assert record.request_id == reply.headers["x-request-id"]


async def test_the_log_of_a_request_holds_no_key_and_no_question(client, key, caplog):
    caplog.set_level("DEBUG", "compliance_copilot.gateway")
    await client.post("/query", json={"query": "a rather private question"})
    lines = [str(vars(record)) for record in caplog.records]
    assert any("/query" in line for line in lines)
    assert not any("private" in line or key in line for line in lines)


async def test_a_body_without_a_length_is_stopped_at_its_limit(client, service):
    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(100):
            sent += 1
            yield b" " * 64 * 1024

    reply = await client.post(
        "/query", content=endless(), headers={"content-type": "application/json"}
    )
    assert reply.status_code == 413
    assert reply.json()["limit_bytes"] == 1024 * 1024
    assert sent < 20
    assert service.copilot.calls == []


async def test_a_declared_length_over_the_limit_is_refused_unread(application, key):
    async with application.router.lifespan_context(application):
        status, asked = await _raw_post(application, key, b"99999999")
    assert (status, asked) == (413, 0)


async def _raw_post(application, key, length):
    asked, statuses = 0, []

    async def receive():
        nonlocal asked
        asked += 1
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"x-api-key", key.encode()), (b"content-length", length)]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/query",
        "raw_path": b"/query",
        "query_string": b"",
        "headers": headers,
    }
    await application(scope, receive, send)
    return (statuses[0] if statuses else None), asked


async def test_a_caller_that_leaves_while_sending_is_no_error(application, key, caplog):
    async with application.router.lifespan_context(application):
        status, asked = await _raw_post(application, key, b"100")
    assert (status, asked) == (None, 1)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


async def test_an_application_whose_lifespan_has_not_run_skips_before_it_authenticates(
    application,
):
    transport = httpx.ASGITransport(application)
    async with httpx.AsyncClient(transport=transport, base_url="http://copilot") as client:
        for path in ("/query", "/search", "/ingest"):
            reply = await client.post(path)
            assert reply.status_code == 200
            assert reply.json() == {
                "skipped": True,
                "reason": "Service not initialized: the application's lifespan has not run",
            }
        assert (await client.get("/health")).json()["status"] == "healthy"
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/whoami")).status_code == 503


async def lifespan_messages(application):
    sent = []
    received = asyncio.Queue()
    received.put_nowait({"type": "lifespan.startup"})
    received.put_nowait({"type": "lifespan.shutdown"})

    async def send(message):
        sent.append(message)

    fault = None
    try:
        await application({"type": "lifespan", "state": {}}, received.get, send)
    except Exception as error:  # noqa: BLE001 - the fault is what is looked at
        fault = error
    return sent, fault


async def test_a_service_that_cannot_start_says_so_in_one_line():
    @asynccontextmanager
    async def open_service():
        raise SetupError("DATABASE_URL: no server answers there.")
        yield

    sent, fault = await lifespan_messages(build_application(open_service, Deployment))
    assert sent == [
        {"type": "lifespan.startup.failed", "message": "DATABASE_URL: no server answers there."}
    ]
    assert isinstance(fault, SetupError)


async def test_a_bad_setting_is_told_before_anything_is_opened():
    opened = []

    @asynccontextmanager
    async def open_service():
        opened.append(1)
        yield

    def describe():
        raise SetupError("API_PORT: not a number.")

    sent, _ = await lifespan_messages(build_application(open_service, describe))
    assert sent == [{"type": "lifespan.startup.failed", "message": "API_PORT: not a number."}]
    assert opened == []


async def test_an_unexpected_failure_at_start_keeps_its_trace():
    @asynccontextmanager
    async def open_service():
        raise RuntimeError("a bug")
        yield

    sent, fault = await lifespan_messages(build_application(open_service, Deployment))
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "Traceback" in sent[0]["message"]
    assert isinstance(fault, RuntimeError)


async def test_a_service_that_starts_also_ends(application):
    sent, fault = await lifespan_messages(application)
    kinds = [message["type"] for message in sent]
    assert (kinds, fault) == (["lifespan.startup.complete", "lifespan.shutdown.complete"], None)
