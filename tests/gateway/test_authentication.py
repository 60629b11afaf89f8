"""The key decides who may do what; the matrix is drawn from the OpenAPI document."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from compliance_copilot.core.errors import Unauthenticated
from compliance_copilot.core.vocabulary import Scope
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment

PLACES = {
    "tenant_id": "acme_corp",
    "document_id": "a",
    "version": "1",
    "key_id": str(UUID(int=1)),
    "request_id": str(UUID(int=2)),
    "provider": "openai",
    "conversation_id": "a-conversation",
    "erasure_id": str(UUID(int=3)),
    "job_id": str(UUID(int=4)),
}
CONTENT = (
    "/query",
    "/search",
    "/ingest",
    "/documents",
    "/answers",
    "/conversations",
    "/erasures",
    "/jobs",
)


def operations() -> Iterator[tuple[str, str, Any]]:
    document = build_application(lambda: None, Deployment).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


GUARDED = [(m, p, o) for m, p, o in operations() if "security" in o]
OPEN = [(m, p) for m, p, o in operations() if "security" not in o]
OF_A_TENANT = [(m, p) for m, p, _ in GUARDED if "{tenant_id}" in p]
IDS = [f"{method} {path}" for method, path, _ in GUARDED]


def bodies(path: str) -> dict[str, Any]:
    return {
        "/query": {"query": "q"},
        "/search": {"query": "q"},
        "/ingest": {"documents": [{"text": "t"}]},
        "/answers/{request_id}/feedback": {"verdict": "helpful"},
        "/tenants/{tenant_id}/provider-keys/{provider}": {"key": "sk-a-key-of-a-tenant"},
        "/documents:sync": {"files": []},
        "/tenants": {"tenant_id": "delta_corp", "name": "Delta"},
        "/tenants/{tenant_id}/keys": {"name": "k", "scopes": ["query"]},
    }.get(path, {})


async def call(client, method: str, path: str, secret: str | None, **places: str):
    headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
    url = path.format(**{**PLACES, **places})
    body = {"json": bodies(path)} if method in ("POST", "PUT", "PATCH") else {}
    if path == "/ingest/files":
        body = {"files": [("files", ("a.txt", b"A rule."))]}
    return await client.request(method, url, headers=headers, **body)


def test_what_is_open_to_anyone_is_only_this():
    assert sorted(OPEN) == [("GET", "/health"), ("GET", "/ready")]
    assert len(GUARDED) > 20
    assert len(OF_A_TENANT) > 10


@pytest.mark.parametrize(("method", "path", "operation"), GUARDED, ids=IDS)
async def test_without_a_key_nothing_is_served(method, path, operation, anonymous, service):
    for secret in (None, "", "nonsense", "cc_live_" + "0" * 43 + "_000000", "x" * 5000):
        reply = await call(anonymous, method, path, secret)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == "Bearer"
        assert reply.json()["code"] == "unauthenticated"
    assert service.keys.asked == []  # a typo costs no look-up


@pytest.mark.parametrize(("method", "path", "operation"), GUARDED, ids=IDS)
async def test_the_needed_scope_opens_and_every_other_does_not(
    method, path, operation, anonymous, service
):
    enough = set(operation["x-scopes"])
    for scope in set(Scope) - {Scope.PLATFORM_ADMIN}:
        secret = service.keys.add("acme_corp", scope)
        reply = await call(anonymous, method, path, secret)
        if str(scope) in enough:
            assert reply.status_code in (200, 201, 202, 204, 404), reply.text
        else:
            assert reply.status_code == 403, (scope, reply.text)


@pytest.mark.parametrize(("method", "path"), OF_A_TENANT)
async def test_a_key_of_one_tenant_opens_no_path_of_another(method, path, anonymous, key):
    for other in ("beta_inc", "does_not_exist", "Not an id"):
        assert (await call(anonymous, method, path, key, tenant_id=other)).status_code == 403


@pytest.mark.parametrize(("method", "path", "operation"), GUARDED, ids=IDS)
async def test_the_platform_key_serves_the_operator_and_never_content(
    method, path, operation, anonymous, platform_secret
):
    reply = await call(anonymous, method, path, platform_secret)
    if path.startswith(CONTENT):
        assert reply.status_code == 403
    elif path.startswith("/usage"):
        assert (reply.status_code, reply.json()["field"]) == (422, "tenant_id")
    else:
        assert reply.status_code in (200, 201, 202, 204, 404), reply.text


@pytest.mark.parametrize("tenant_id", ["does_not_exist", "Not an id", "a%00b"])
async def test_to_the_operator_an_unknown_tenant_is_unknown(tenant_id, anonymous, platform_secret):
    headers = {"X-API-Key": platform_secret}
    for path in ("", "/limits", "/keys", "/config", "/config/effective"):
        reply = await anonymous.get(f"/tenants/{tenant_id}{path}", headers=headers)
        assert reply.status_code == 404
    assert (await anonymous.get("/usage?tenant_id=beta_inc", headers=headers)).status_code == 200
    reply = await anonymous.get(f"/usage?tenant_id={tenant_id}", headers=headers)
    assert reply.status_code == 404


@pytest.mark.parametrize("path", ["/query", "/search", "/ingest"])
async def test_a_body_that_names_another_tenant_is_refused(path, client, service):
    for other in ("beta_inc", "does_not_exist", ""):
        reply = await client.post(path, json={**bodies(path), "tenant_id": other})
        assert (reply.status_code, reply.json()["code"]) == (403, "tenant_mismatch")
    assert service.copilot.calls == []
    reply = await client.post(path, json={**bodies(path), "tenant_id": "acme_corp"})
    assert reply.status_code == 200


async def test_usage_of_another_tenant_is_refused(client):
    assert (await client.get("/usage?tenant_id=beta_inc")).status_code == 403
    assert (await client.get("/usage?tenant_id=acme_corp")).status_code == 200


async def test_both_headers_carry_a_key_and_two_keys_are_refused(anonymous, service):
    one, other = service.keys.add("acme_corp"), service.keys.add("beta_inc")
    for headers in ({"Authorization": f"bearer {one}"}, {"X-API-Key": one}):
        reply = await anonymous.get("/whoami", headers=headers)
        assert reply.json()["tenant_id"] == "acme_corp"
    both = {"Authorization": f"Bearer {one}", "X-API-Key": one}
    assert (await anonymous.get("/whoami", headers=both)).status_code == 200
    assert (await anonymous.get("/whoami", headers={**both, "X-API-Key": other})).status_code == 401
    basic = {"Authorization": f"Basic {one}"}
    assert (await anonymous.get("/whoami", headers=basic)).status_code == 401


async def test_admitted_work_leaves_the_second_look_to_admission(client, service):
    await client.post("/query", json={"query": "q"})
    await client.get("/documents")
    assert service.keys.asked == [False, True]
    assert service.copilot.calls[0][2]["call"].principal.tenant_id == "acme_corp"


async def test_a_key_that_admission_finds_revoked_is_forgotten(client, service, failing):
    failing(Unauthenticated("The key is unknown, revoked or expired."))
    assert (await client.post("/query", json={"query": "q"})).status_code == 401
    assert [p.tenant_id for p in service.keys.forgotten] == ["acme_corp"]


async def test_in_development_a_401_says_where_the_keys_lie(anonymous):
    detail = (await anonymous.get("/whoami")).json()["detail"]
    assert "X-API-Key" in detail
    assert "/data/keys" in detail


class TestInProduction:
    @pytest.fixture
    def deployment(self) -> Deployment:
        return Deployment("production", "The demo keys lie in /data/keys.")

    async def test_a_401_says_nothing_of_folders(self, anonymous):
        detail = (await anonymous.get("/whoami")).json()["detail"]
        assert "X-API-Key" in detail
        assert "/data/keys" not in detail
