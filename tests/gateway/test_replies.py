"""Replies have the fields of the contract, and what OpenAPI says of them is true."""

import json
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from compliance_copilot.core.clock import new_id
from compliance_copilot.core.vocabulary import Replay
from compliance_copilot.gateway import record_schemas, reply_schemas

QUESTION = {"query": "How is data encrypted?"}
TENANT = "/tenants/acme_corp"


def fits(model: type[BaseModel], content: bytes) -> None:
    """Check a reply against its model: every field there, none besides."""

    class Exact(model):  # type: ignore[misc, valid-type]
        model_config = ConfigDict(extra="forbid")

    Exact.model_validate_json(content)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "model"),
    [
        ("POST", "/query", QUESTION, 200, reply_schemas.QueryReplyBody),
        ("POST", "/search", QUESTION, 200, reply_schemas.SearchReplyBody),
        ("POST", "/ingest", {"documents": [{"text": "t"}]}, 200, reply_schemas.IngestReplyBody),
        ("GET", "/metrics/acme_corp", None, 200, reply_schemas.UsageSummaryBody),
        ("GET", "/documents", None, 200, record_schemas.DocumentList),
        ("GET", "/documents/a", None, 200, record_schemas.DocumentInfoBody),
        ("GET", "/documents/a/versions", None, 200, record_schemas.VersionList),
        ("DELETE", "/documents/a", None, 202, record_schemas.ErasureBody),
        ("GET", f"/erasures/{UUID(int=1)}", None, 200, record_schemas.ErasureBody),
        ("GET", "/usage", None, 200, record_schemas.UsageList),
        ("GET", "/usage/statement?month=2026-11", None, 200, record_schemas.StatementBody),
        ("GET", "/whoami", None, 200, record_schemas.WhoAmI),
        ("GET", f"{TENANT}/keys", None, 200, record_schemas.KeyList),
        (
            "POST",
            f"{TENANT}/keys",
            {"name": "k", "scopes": ["query"], "expires_in_days": 9},
            201,
            record_schemas.IssuedKeyBody,
        ),
        ("GET", f"{TENANT}/config", None, 200, record_schemas.ConfigReply),
        ("PATCH", f"{TENANT}/config", {"top_k": 8}, 200, record_schemas.ConfigReply),
        ("GET", f"{TENANT}/config/effective", None, 200, record_schemas.EffectiveConfigReply),
        ("GET", "/health", None, 200, record_schemas.Health),
        ("GET", "/ready", None, 200, record_schemas.ReadinessBody),
    ],
)
async def test_a_reply_is_what_openapi_says(method, path, body, status, model, client):
    reply = await client.request(method, path, **({"json": body} if body else {}))
    assert reply.status_code == status, reply.text
    fits(model, reply.content)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "model"),
    [
        (
            "POST",
            "/tenants",
            {"tenant_id": "delta", "name": "D", "config": {"top_k": 3}, "limits": {}},
            201,
            record_schemas.NewTenantReply,
        ),
        ("GET", "/tenants", None, 200, record_schemas.TenantList),
        ("GET", TENANT, None, 200, record_schemas.TenantBody),
        ("PATCH", TENANT, {"status": "suspended"}, 200, record_schemas.TenantBody),
        ("GET", "/system/config", None, 200, record_schemas.EffectiveConfigReply),
        ("PATCH", "/system/config", {"top_k": 4}, 200, record_schemas.EffectiveConfigReply),
        ("GET", "/whoami", None, 200, record_schemas.WhoAmI),
    ],
)
async def test_a_reply_to_the_operator_is_what_openapi_says(
    method, path, body, status, model, anonymous, platform_secret
):
    rest = {"json": body} if body else {}
    headers = {"X-API-Key": platform_secret}
    reply = await anonymous.request(method, path, headers=headers, **rest)
    assert reply.status_code == status, reply.text
    fits(model, reply.content)


@pytest.mark.parametrize(("path", "body"), [("/query", QUESTION), ("/search", QUESTION)])
async def test_the_ledgers_key_is_the_request_id(path, body, client):
    reply = await client.post(path, json=body)
    assert reply.json()["metadata"]["request_id"] == reply.headers["x-request-id"]
    assert reply.headers["ratelimit"] == '"hour";r=99'
    assert reply.headers["ratelimit-policy"] == '"hour";q=100;w=3600'


async def test_a_repeat_gets_the_stored_reply_and_is_told_so(client, service):
    first = new_id()
    stored = {"answer": "as before", "metadata": {"request_id": str(first)}}
    service.copilot.reply = Replay(stored, first)
    reply = await client.post("/query", json=QUESTION, headers={"Idempotency-Key": "k-1"})
    assert reply.json() == stored
    assert reply.headers["idempotency-replayed"] == "true"
    assert reply.headers.get_list("x-request-id") == [str(first)]


async def test_the_claim_is_the_same_for_the_same_question_only(client, service):
    keyed = {"Idempotency-Key": "k-1"}
    same = [QUESTION, {**QUESTION, "tenant_id": "acme_corp"}, {**QUESTION, "top_k": None}]
    for body in [*same, {**QUESTION, "top_k": 3}, {"query": "Another?"}]:
        await client.post("/query", json=body, headers=keyed)
    await client.post("/query", json=QUESTION)
    claims = [call[2]["call"].idempotency for call in service.copilot.calls]
    assert claims.pop() is None
    assert {claim.key for claim in claims} == {"k-1"}
    hashes = [claim.body_hash for claim in claims]
    assert len(set(hashes[:3])) == 1
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("claimed", ["", "a b", "k" * 256, "\N{LATIN SMALL LETTER E WITH ACUTE}"])
async def test_an_unusable_idempotency_key_is_refused(claimed, client, service):
    headers = [(b"Idempotency-Key", claimed.encode("latin-1"))]
    reply = await client.post("/query", json=QUESTION, headers=headers)
    assert (reply.status_code, reply.json().get("field")) == (422, "Idempotency-Key"), reply.text
    assert service.copilot.calls == []


async def test_limited_mode_skips_after_the_key_and_the_form_were_seen(client, anonymous, service):
    service.skip_reason = "Service not initialized: OPENAI_API_KEY is not set"
    reply = await client.post("/query", json=QUESTION)
    assert reply.status_code == 200
    assert reply.json() == {"skipped": True, "reason": service.skip_reason}
    assert (await client.post("/query", json={})).status_code == 422
    assert service.copilot.calls == []
    assert (await client.get("/health")).json()["services"]["query"] is False


async def test_readiness_is_503_only_when_down(anonymous, service):
    for status, code in (("ready", 200), ("limited", 200), ("down", 503)):
        service.readiness = status
        reply = await anonymous.get("/ready")
        assert (reply.status_code, reply.json()["status"]) == (code, status)


@pytest.mark.parametrize(
    ("path", "name", "id_name"),
    [("/documents", "documents", "document_id"), (f"{TENANT}/keys", "keys", "key_id")],
)
async def test_pages_join_without_gap_or_repeat(path, name, id_name, client):
    whole = (await client.get(path)).json()
    assert whole["next_cursor"] is None
    seen, cursor = [], {}
    while True:
        shown = (await client.get(path, params={"limit": 2, **cursor})).json()
        seen += shown[name]
        if shown["next_cursor"] is None:
            break
        cursor = {"cursor": shown["next_cursor"]}
    assert len(whole[name]) == 5
    assert [entry[id_name] for entry in seen] == [entry[id_name] for entry in whole[name]]


async def test_a_page_of_tenants_continues(anonymous, platform_secret):
    headers = {"X-API-Key": platform_secret}
    first = (await anonymous.get("/tenants?limit=1", headers=headers)).json()
    assert [t["tenant_id"] for t in first["tenants"]] == ["acme_corp"]
    after = {"limit": "1", "cursor": first["next_cursor"]}
    second = (await anonymous.get("/tenants", params=after, headers=headers)).json()
    assert [t["tenant_id"] for t in second["tenants"]] == ["beta_inc"]
    assert second["next_cursor"] is None


async def test_a_text_comes_back_to_the_character(client):
    reply = await client.get("/documents/a/versions/1/text")
    assert reply.content == "Café\r\n\N{GRINNING FACE}".encode()
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_change_is_written_with_who_made_it(client, service):
    await client.patch(f"{TENANT}/config", json={"retrieval_mode": "hybrid"})
    written = service.config.written[0]
    assert written["tenant_id"] == "acme_corp"
    assert written["retrieval_mode"] == "hybrid"
    assert len(written["set_by"]) == UUID_LENGTH


UUID_LENGTH = 36


async def test_an_unknown_key_and_one_that_is_no_id_are_answered_alike(client):
    bodies = []
    for key_id in ("00000000-0000-0000-0000-000000000001", "no-uuid"):
        reply = await client.delete(f"{TENANT}/keys/{key_id}")
        assert reply.status_code == 404
        bodies.append({k: v for k, v in reply.json().items() if k != "request_id"})
    assert bodies[0] == bodies[1]


def test_openapi_refers_to_nothing_that_is_not_there(application):
    document = application.openapi()
    text = json.dumps(document)
    names = set(document["components"]["schemas"])
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= names


def test_the_examples_of_openapi_fit_their_schemas(application):
    from compliance_copilot.gateway import schemas

    seen = 0
    for module in (schemas, reply_schemas, record_schemas):
        for model in vars(module).values():
            if isinstance(model, type) and issubclass(model, BaseModel):
                extra = model.model_config.get("json_schema_extra")
                if isinstance(extra, dict) and "example" in extra:
                    model.model_validate_json(json.dumps(extra["example"]))
                    seen += 1
    assert seen >= 8


async def test_the_docs_page_needs_no_other_host(anonymous):
    page = (await anonymous.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("assets/swagger-ui-bundle.js", "assets/swagger-ui.css", "start.js"):
        assert f"/docs/{asset}" in page
        assert (await anonymous.get(f"/docs/{asset}")).status_code == 200


def test_the_authorize_button_has_its_schemes(application):
    document = application.openapi()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "api_key"}
    assert document["paths"]["/query"]["post"]["security"] == [{"bearer": []}, {"api_key": []}]


def test_openapi_tells_the_bounds_that_are_enforced(application):
    known = application.openapi()["components"]["schemas"]
    top_k, null = known["ConfigBody"]["properties"]["top_k"]["anyOf"]
    assert null == {"type": "null"}
    assert (top_k["type"], top_k["minimum"], top_k["maximum"]) == ("integer", 1, 100)
    assert known["RotationBody"]["properties"]["overlap_seconds"]["minimum"] == 0
    assert known["ConfigBody"]["properties"]["cache_seconds"]["anyOf"][0]["minimum"] == 1
    asked = known["QueryRequest"]["properties"]
    assert asked["query"]["maxLength"] == 8000
    assert {"minimum": 1, "maximum": 100, "type": "integer"} in asked["top_k"]["anyOf"]
    assert known["IngestRequest"]["properties"]["documents"]["maxItems"] == 1000
    assert known["QueryRequest"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("header", "fresh"), [("no-store", True), ("max-age=0, No-Store", True), ("no-cache", False)]
)
async def test_only_no_store_goes_round_the_query_cache(client, service, header, fresh):
    headers = {"Cache-Control": header}
    assert (await client.post("/query", json={"query": "q"}, headers=headers)).status_code == 200
    assert service.copilot.calls[-1][2]["call"].fresh is fresh
