"""Every route of the OpenAPI document x every kind of caller who has no business there."""

from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from compliance_copilot.core.vocabulary import NewDocument, Scope
from compliance_copilot.orchestrator import Service
from compliance_copilot.tenancy.tenants import TenantChange
from tests.conftest import ADMIN_KEY
from tests.isolation.conftest import World

OPEN = {"/health", "/ready", "/openapi.json", "/docs"}
OBJECTS = {"document_id": "retention-{tenant}", "version": "1"}
BODIES: dict[str, Any] = {
    "POST /query": {"query": "How long are records kept?"},
    "POST /search": {"query": "How long are records kept?"},
    "POST /ingest": {"documents": [{"document_id": "new", "text": "A rule."}]},
    "POST /answers/{request_id}/feedback": {"verdict": "helpful"},
    "PUT /tenants/{tenant_id}/provider-keys/{provider}": {"key": "sk-a-key-of-the-tenants-own"},
    "PATCH /documents/{document_id}": {"title": "Another title"},
    "PUT /documents:sync": {"files": []},
    "POST /tenants": {"tenant_id": "gamma", "name": "Gamma"},
    "PATCH /tenants/{tenant_id}": {"name": "New"},
    "PATCH /tenants/{tenant_id}/config": {"top_k": 3},
    "PATCH /system/config": {"top_k": 3},
    "POST /tenants/{tenant_id}/keys": {"name": "more", "scopes": ["query"]},
    "POST /tenants/{tenant_id}/keys/{key_id}/rotate": {},
}


def routes(world: World) -> list[tuple[str, str, dict[str, Any]]]:
    document = world.application.openapi()
    return [
        (method.upper(), path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path not in OPEN
    ]


async def call(
    world: World, method: str, path: str, headers: dict[str, str], **names: str
) -> httpx.Response:
    filled = path
    for name, value in names.items():
        filled = filled.replace("{" + name + "}", value)
    body = BODIES.get(f"{method} {path}")
    return await world.client.request(method, filled, json=body, headers=headers)


def own_names(tenant_id: str) -> dict[str, str]:
    return {
        "tenant_id": tenant_id,
        "document_id": f"retention-{tenant_id}",
        "version": "1",
        "erasure_id": str(uuid4()),
        "key_id": str(uuid4()),
        "job_id": str(uuid4()),
        "request_id": str(uuid4()),
        "provider": "openai",
        "conversation_id": "a-conversation",
    }


async def test_the_matrix_covers_every_route_that_takes_a_body(world: World) -> None:
    known = {f"{method} {path}" for method, path, _ in routes(world)}
    assert set(BODIES) <= known
    assert len(known) >= 20


async def test_every_route_that_is_not_open_declares_its_keys_and_scopes(world: World) -> None:
    for method, path, operation in routes(world):
        assert operation.get("security"), f"{method} {path}"
        assert operation.get("x-scopes"), f"{method} {path}"
    served = {
        route.path for route in world.application.routes if getattr(route, "methods", None)
    } - set(world.application.openapi()["paths"])
    assert {path for path in served if not path.startswith("/docs")} <= {*OPEN, "/"}


@pytest.mark.parametrize("kind", ["none", "typo", "revoked", "expired", "garbage"])
async def test_without_a_valid_key_every_route_answers_401(
    world: World, kind: str, owner: asyncpg.Connection
) -> None:
    service: Service = world.application.state.gateway.service
    headers = {"Authorization": f"Bearer {world.alpha.key}"}
    if kind == "none":
        headers = {}
    elif kind == "typo":
        last = "0" if world.alpha.key[-1] != "0" else "1"
        headers = {"Authorization": f"Bearer {world.alpha.key[:-1]}{last}"}
    elif kind == "garbage":
        headers = {"X-API-Key": "' OR 1=1 --"}
    else:
        assert (await world.client.get("/whoami", headers=headers)).status_code == 200
        warm = await call(world, "POST", "/query", headers)
        assert warm.status_code == 200
        for key in await service.keys.list(world.alpha.tenant_id):
            if kind == "revoked":
                await service.keys.revoke(world.alpha.tenant_id, key.key_id)
        if kind == "expired":
            await owner.execute("UPDATE api_keys SET expires_at = now()")
    for method, path, _ in routes(world):
        reply = await call(world, method, path, headers, **own_names("alpha"))
        assert reply.status_code == 401, f"{method} {path}: {reply.status_code}"
        assert reply.headers["content-type"] == "application/problem+json"


async def test_a_key_without_the_scope_is_refused_and_one_with_it_is_not(world: World) -> None:
    service: Service = world.application.state.gateway.service
    for method, path, operation in routes(world):
        needed = {Scope(scope) for scope in operation.get("x-scopes", [])}
        others = set(Scope) - needed - {Scope.PLATFORM_ADMIN}
        if not needed or not others:
            continue
        lacking = await service.keys.create(
            world.alpha.tenant_id, name="lacking", scopes=tuple(sorted(others))
        )
        headers = {"Authorization": f"Bearer {lacking.secret}"}
        reply = await call(world, method, path, headers, **own_names("alpha"))
        assert reply.status_code == 403, f"{method} {path}: {reply.status_code} {reply.text}"
        tenant_scopes = needed - {Scope.PLATFORM_ADMIN}
        if not tenant_scopes or method == "DELETE":
            continue
        fitting = await service.keys.create(
            world.alpha.tenant_id, name="fitting", scopes=tuple(sorted(tenant_scopes))
        )
        headers = {"Authorization": f"Bearer {fitting.secret}"}
        reply = await call(world, method, path, headers, **own_names("alpha"))
        assert reply.status_code not in {401, 403}, f"{method} {path}: {reply.text}"


async def test_a_suspended_tenants_key_is_refused_everywhere_but_at_whoami(world: World) -> None:
    service: Service = world.application.state.gateway.service
    everything = tuple(set(Scope) - {Scope.PLATFORM_ADMIN})
    key = await service.keys.create(world.alpha.tenant_id, name="all", scopes=everything)
    headers = {"Authorization": f"Bearer {key.secret}"}
    await call(world, "POST", "/query", headers)  # the key is in memory from here on
    for status, before in (("suspended", None), ("active", "suspended")):
        change = TenantChange(status=status)
        await service.tenants.update(world.alpha.tenant_id, change)
        for method, path, operation in routes(world):
            if set(operation["x-scopes"]) == {Scope.PLATFORM_ADMIN} or (
                method == "DELETE" and before
            ):
                continue
            reply = await call(world, method, path, headers, **own_names("alpha"))
            if path == "/whoami":
                assert reply.status_code == 200
            elif status == "suspended":
                assert reply.status_code == 403, f"{method} {path}: {reply.status_code}"
                assert "suspended" in reply.json()["detail"], f"{method} {path}"
            else:
                assert reply.status_code not in {401, 403}, f"{method} {path}: {reply.text}"
    reply = await world.client.get("/documents", headers=world.beta.headers)
    assert reply.status_code == 200


async def test_another_tenants_id_in_a_path_is_403_whether_it_exists_or_not(world: World) -> None:
    for method, path, _ in routes(world):
        if "{tenant_id}" not in path:
            continue
        replies = [
            await call(
                world, method, path, world.beta.headers, **{**own_names("beta"), "tenant_id": name}
            )
            for name in ("alpha", "no-such-tenant")
        ]
        assert [reply.status_code for reply in replies] == [403, 403], f"{method} {path}"
        assert alike(*replies), f"{method} {path}"


async def test_another_tenants_id_in_a_body_is_403_and_ones_own_is_not(world: World) -> None:
    for path in ("/query", "/search", "/ingest"):
        for name, expected in (("alpha", 403), ("no-such-tenant", 403), ("beta", 200)):
            body = {**BODIES[f"POST {path}"], "tenant_id": name}
            reply = await world.client.post(path, json=body, headers=world.beta.headers)
            assert reply.status_code == expected, f"{path} {name}: {reply.text}"


async def test_another_tenants_id_in_a_query_string_is_403_and_ones_own_is_not(
    world: World,
) -> None:
    seen = 0
    for method, path, operation in routes(world):
        if not any(p["name"] == "tenant_id" and p["in"] == "query" for p in _parameters(operation)):
            continue
        for name, expected in (("alpha", 403), ("no-such-tenant", 403), ("beta", 200)):
            reply = await world.client.request(
                method, path, params={"tenant_id": name}, headers=world.beta.headers
            )
            assert reply.status_code == expected, f"{path} {name}: {reply.text}"
        seen += 1
    assert seen >= 1


async def test_an_idempotency_key_of_another_tenant_repeats_nothing(world: World) -> None:
    body = BODIES["POST /query"]
    replies = {}
    for customer in (world.alpha, world.beta, world.alpha):
        headers = {**customer.headers, "Idempotency-Key": "the-same"}
        reply = await world.client.post("/query", json=body, headers=headers)
        assert reply.status_code == 200
        assert reply.json()["metadata"]["tenant_id"] == customer.tenant_id
        before = replies.setdefault(customer.tenant_id, reply)
        assert before.content == reply.content
    assert reply.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in replies["beta"].headers


async def test_a_cursor_of_another_tenant_gives_rows_of_ones_own(world: World) -> None:
    for customer in (world.alpha, world.beta):
        for _ in range(2):
            await call(world, "POST", "/query", customer.headers)
    page = await world.client.get("/usage", params={"limit": 1}, headers=world.alpha.headers)
    cursor = page.json()["next_cursor"]
    own = await world.client.get("/usage", headers=world.beta.headers)
    seen = await world.client.get("/usage", params={"cursor": cursor}, headers=world.beta.headers)
    known = {event["request_id"] for event in own.json()["events"]}
    assert {event["request_id"] for event in seen.json()["events"]} <= known
    more = await world.client.get("/usage", params={"cursor": cursor}, headers=world.alpha.headers)
    assert more.json()["events"]


async def test_another_tenants_object_and_an_unknown_one_are_answered_alike(world: World) -> None:
    service: Service = world.application.state.gateway.service
    foreign_key = (await service.keys.list(world.alpha.tenant_id))[0].key_id
    answer = await call(world, "POST", "/query", world.alpha.headers)
    foreign_answer = answer.json()["metadata"]["request_id"]
    spare = NewDocument("A spare rule.", "spare")
    await service.copilot.ingest(world.alpha.tenant_id, [spare])
    erased = await service.erasing.document(world.alpha.tenant_id, "spare", requested_by="test")
    seen = 0
    ids = ("{document_id}", "{key_id}", "{request_id}", "{erasure_id}")
    for method, path, _ in routes(world):
        if not any(name in path for name in ids):
            continue
        foreign = {**own_names("alpha"), "tenant_id": "beta"}
        foreign |= {"key_id": str(foreign_key), "request_id": foreign_answer}
        foreign["erasure_id"] = str(erased.erasure_id)
        unknown = {**own_names("beta"), "document_id": "no-such-document"}
        replies = [
            await call(world, method, path, world.beta.headers, **names)
            for names in (foreign, unknown)
        ]
        assert [reply.status_code for reply in replies] == [404, 404], f"{method} {path}"
        assert alike(*replies), f"{method} {path}"
        seen += 1
    assert seen >= 5
    own = await world.client.get("/documents/retention-beta", headers=world.beta.headers)
    assert own.status_code == 200
    kept = await world.client.get(f"/answers/{foreign_answer}", headers=world.alpha.headers)
    assert kept.content == answer.content
    assert len(await service.copilot.documents.list(world.alpha.tenant_id)) == 1


async def test_the_platform_key_reads_no_tenants_content(world: World) -> None:
    operator = {"X-API-Key": ADMIN_KEY}
    for method, path, _ in routes(world):
        if path in {"/query", "/search", "/ingest"} or path.startswith(
            ("/documents", "/answers", "/conversations")
        ):
            reply = await call(world, method, path, operator, **own_names("alpha"))
            assert reply.status_code == 403, f"{method} {path}"
    assert (await world.client.get("/tenants", headers=operator)).status_code == 200


def alike(one: httpx.Response, other: httpx.Response) -> bool:
    bodies = []
    for reply in (one, other):
        body = reply.json()
        body.pop("request_id")
        bodies.append((reply.status_code, body))
    return bodies[0] == bodies[1]


def _parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return operation.get("parameters", [])
