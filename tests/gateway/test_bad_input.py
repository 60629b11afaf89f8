"""Bad input is refused with the field's name, and nothing reaches the service."""

import json

import pytest

TEXT = "Customer data at rest is encrypted."
ONE = [{"text": TEXT}]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def documents(**changes: object) -> dict[str, object]:
    return {"documents": [{"text": TEXT}, {"text": TEXT, **changes}]}


BAD_QUESTIONS = {
    "empty query": ({"query": ""}, 422, "query"),
    "whitespace query": ({"query": " \t\n\u2003"}, 422, "query"),
    "long query": ({"query": "q" * 8001}, 422, "query"),
    "1 MB query": ({"query": "q" * 1_000_000}, 422, "query"),
    "body over 1 MiB": ({"query": "q" * 1_100_000}, 413, "body"),
    "no query": ({}, 422, "query"),
    "query of another type": ({"query": 5}, 422, "query"),
    "query null": ({"query": None}, 422, "query"),
    "unknown field": ({"query": "q", "topk": 3}, 422, "topk"),
    "tenant of another type": ({"query": "q", "tenant_id": 5}, 422, "tenant_id"),
    "unknown mode": ({"query": "q", "retrieval_mode": "psychic"}, 422, "retrieval_mode"),
    "mode in capitals": ({"query": "q", "retrieval_mode": "HYBRID"}, 422, "retrieval_mode"),
    "unknown tier": ({"query": "q", "model_tier": "gpt-9"}, 422, "model_tier"),
    "top_k 0": ({"query": "q", "top_k": 0}, 422, "top_k"),
    "top_k 101": ({"query": "q", "top_k": 101}, 422, "top_k"),
    "top_k 10000": ({"query": "q", "top_k": 10_000}, 422, "top_k"),
    "top_k as text": ({"query": "q", "top_k": "5"}, 422, "top_k"),
    "top_k as bool": ({"query": "q", "top_k": True}, 422, "top_k"),
    "top_k with a fraction": ({"query": "q", "top_k": 5.5}, 422, "top_k"),
    "top_k beyond 64 bits": ({"query": "q", "top_k": 10**30}, 422, "top_k"),
    "max_tokens 0": ({"query": "q", "max_tokens": 0}, 422, "max_tokens"),
    "temperature 3": ({"query": "q", "temperature": 3}, 422, "temperature"),
    "temperature as bool": ({"query": "q", "temperature": True}, 422, "temperature"),
    "order of texts": ({"query": "q", "filters": {"a": {"gt": "b"}}}, 422, "filters.a.gt"),
    "filter null inside": ({"query": "q", "filters": {"a": None}}, 422, "filters.a.eq"),
    "filter as text": ({"query": "q", "filters": "a = 1"}, 422, "filters"),
    "as_of without a zone": ({"query": "q", "as_of": "2026-01-01T00:00:00"}, 422, "as_of"),
    "a list": ([1], 422, "body"),
    "a text": ("query", 422, "body"),
    "null": (None, 422, "body"),
}
BAD_DOCUMENTS = {
    "no documents": ({}, 422, "documents"),
    "empty list": ({"documents": []}, 422, "documents"),
    "1001 documents": ({"documents": ONE * 1001}, 422, "documents"),
    "10000 documents": ({"documents": ONE * 10_000}, 422, "documents"),
    "a text for a list": ({"documents": TEXT}, 422, "documents"),
    "empty text": (documents(text=""), 422, "documents.1.text"),
    "whitespace text": (documents(text=" \n "), 422, "documents.1.text"),
    "text of another type": (documents(text=5), 422, "documents.1.text"),
    "text over 2 MB": (documents(text="t" * 2_000_001), 413, "documents.1.text"),
    "text over 2 MB of UTF-8": (documents(text="\N{EURO SIGN}" * 700_000), 413, "documents.1.text"),
    "unknown field": (documents(content="t"), 422, "documents.1.content"),
    "empty id": (documents(document_id=""), 422, "documents.1.document_id"),
    "long id": (documents(document_id="i" * 256), 422, "documents.1.document_id"),
    "id with a slash": (documents(document_id="a/b"), 422, "documents.1.document_id"),
    "id with a newline": (documents(document_id="a\nb"), 422, "documents.1.document_id"),
    "id of dots": (documents(document_id=".."), 422, "documents.1.document_id"),
    "id as number": (documents(document_id=7), 422, "documents.1.document_id"),
    "ids twice": (
        {"documents": [{"text": TEXT, "document_id": "a"}, {"text": "t", "document_id": "a"}]},
        422,
        "documents.1.document_id",
    ),
    "empty title": (documents(title=""), 422, "documents.1.title"),
    "long title": (documents(title="t" * 501), 422, "documents.1.title"),
    "metadata as list": (documents(metadata=[1]), 422, "documents.1.metadata"),
    "metadata 9 deep": (documents(metadata=nested(9)), 422, "documents.1.metadata"),
    "metadata 100 deep": (documents(metadata=nested(100)), 422, "documents.1.metadata"),
    "metadata too long": (documents(metadata={"a": "b" * 32_001}), 422, "documents.1.metadata"),
    "metadata big integer": (documents(metadata={"a": 2**63}), 422, "documents.1.metadata"),
    "time as number": (documents(effective_from=5), 422, "documents.1.effective_from"),
    "a million unknown fields": (
        documents(**{f"k{n}": 1 for n in range(1_000_000)}),
        422,
        "documents.1",
    ),
    "a wide list": (documents(metadata={"a": [1] * 5_000_000}), 422, "documents.1.metadata"),
    "time before the calendar": (
        documents(effective_from="0001-01-01T00:00:00+14:00"),
        422,
        "documents.1.effective_from",
    ),
    "time without zone": (
        documents(effective_from="2026-11-23T10:00:00"),
        422,
        "documents.1.effective_from",
    ),
}
RAW = {
    "empty": (b"", 400, "body"),
    "broken": (b'{"query": ', 400, "body"),
    "not UTF-8": (b'{"query": "\xff"}', 400, "body"),
    "NaN": (b'{"query": "q", "temperature": NaN}', 400, "body"),
    "Infinity": (b'{"query": "q", "temperature": 1e999}', 400, "body"),
    "trailing": (b'{"query": "q"} {}', 400, "body"),
    "2000 lists": (b"[" * 2000 + b"]" * 2000, 400, "body"),
    "500000 lists": (b"[" * 500_000, 400, "body"),
    "NUL": (b'{"query": "a\\u0000b"}', 422, "query"),
    "NUL in a name": (b'{"query": "q", "a\\u0000": 1}', 422, "a\N{REPLACEMENT CHARACTER}"),
    "high surrogate": (b'{"query": "a\\ud800b"}', 422, "query"),
    "low surrogate": (b'{"query": "a\\udc00b"}', 422, "query"),
    "surrogate in a name": (b'{"query": "q", "\\ud800": 1}', 422, "\N{REPLACEMENT CHARACTER}"),
    "raw control character": (b'{"query": "a\x00b"}', 400, "body"),
}


async def refused(client, service, path, content, expected):
    headers = {"content-type": "application/json"}
    reply = await client.post(path, content=content, headers=headers)
    body = reply.json()
    assert (reply.status_code, body.get("field")) == expected, body
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(reply.content) < 5_000
    assert service.copilot.calls == []


@pytest.mark.parametrize("case", BAD_QUESTIONS)
@pytest.mark.parametrize("path", ["/query", "/search"])
async def test_a_bad_question_is_refused_with_its_field(path, case, client, service):
    body, status, field = BAD_QUESTIONS[case]
    await refused(client, service, path, json.dumps(body).encode(), (status, field))


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
async def test_a_bad_document_is_refused_with_its_place(case, client, service):
    body, status, field = BAD_DOCUMENTS[case]
    content = json.dumps(body, ensure_ascii=False).encode()
    await refused(client, service, "/ingest", content, (status, field))


@pytest.mark.parametrize("case", RAW)
async def test_what_is_no_text_or_no_json_is_refused(case, client, service):
    content, status, field = RAW[case]
    await refused(client, service, "/query", content, (status, field))


@pytest.mark.parametrize("what", ["\\u0000", "\\ud800"])
async def test_an_unusable_character_deep_in_a_document_is_named(what, client, service):
    content = b'{"documents": [{"text": "t", "metadata": {"a": ["x", "%b"]}}]}' % what.encode()
    await refused(client, service, "/ingest", content, (422, "documents.0.metadata.a.1"))


async def test_every_fault_is_listed_without_its_value(client):
    reply = await client.post("/query", json={"query": " ", "top_k": "unlikely-5", "x": 1})
    errors = reply.json()["errors"]
    assert {e["field"] for e in errors} == {"query", "top_k", "x"}
    assert "unlikely-5" not in reply.text


async def test_another_content_type_is_refused(client, service):
    reply = await client.post("/query", content=b"q", headers={"content-type": "text/plain"})
    assert reply.status_code == 415
    assert service.copilot.calls == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.a+json"])
async def test_json_by_other_names_is_read(kind, client, service):
    reply = await client.post("/query", content=b'{"query":"q"}', headers={"content-type": kind})
    assert reply.status_code == 200


async def test_good_input_passes_to_its_edges(client, service):
    question = {
        "tenant_id": "acme_corp",
        "query": "q" * 8000,
        "model_tier": "gpt-4",
        "retrieval_mode": "hybrid",
        "top_k": 100,
        "max_tokens": 1,
        "temperature": 0,
    }
    assert (await client.post("/query", json=question)).status_code == 200
    tenant_id, _, rest = service.copilot.calls[0]
    assert tenant_id == "acme_corp"
    assert rest["override_config"] == {
        "model_tier": "gpt-4",
        "retrieval_mode": "hybrid",
        "top_k": 100,
        "max_tokens": 1,
        "temperature": 0.0,
    }


async def test_good_documents_pass_to_their_edges(client, service):
    full = {
        "text": "t" * 2_000_000,
        "document_id": "\N{LATIN SMALL LETTER E WITH ACUTE} policy" + "i" * 247,
        "title": "t" * 500,
        "metadata": nested(8),
        "effective_from": "2026-11-23T10:00:00Z",
    }
    nulls = {"text": "\U0001f600", "document_id": None, "title": None, "metadata": None}
    reply = await client.post("/ingest", json={"documents": [full, nulls]})
    assert reply.status_code == 200, reply.text
    assert (await client.post("/ingest", json={"documents": ONE * 1000})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/tenants", {"tenant_id": "Acme", "name": "A"}, "tenant_id"),
        ("POST", "/tenants", {"tenant_id": "acme\n", "name": "A"}, "tenant_id"),
        ("POST", "/tenants", {"tenant_id": "acme", "name": " "}, "name"),
        ("POST", "/tenants", {"tenant_id": "acme", "name": "A", "config": {"k": 1}}, "config.k"),
        ("POST", "/tenants", {"tenant_id": "acme", "name": "A", "config": None}, "config"),
        ("PATCH", "/tenants/acme_corp", {"status": "deleted"}, "status"),
        (
            "PATCH",
            "/tenants/acme_corp",
            {"limits": {"max_tokens_per_query": None}},
            "limits.max_tokens_per_query",
        ),
        ("PATCH", "/tenants/acme_corp/config", {"top_k": "5"}, "top_k"),
        ("PATCH", "/tenants/acme_corp/config", {"set_by": "me"}, "set_by"),
        ("PATCH", "/system/config", {"resource_limits": {}}, "resource_limits"),
        ("POST", "/tenants/acme_corp/keys", {"name": "k", "scopes": []}, "scopes"),
        ("POST", "/tenants/acme_corp/keys", {"name": "k", "scopes": ["root"]}, "scopes.0"),
        (
            "POST",
            "/tenants/acme_corp/keys",
            {"name": "k", "scopes": ["platform:admin"]},
            "scopes.0",
        ),
    ],
)
async def test_the_operator_too_is_held_to_the_form(
    method, path, body, field, anonymous, platform_secret
):
    headers = {"X-API-Key": platform_secret}
    reply = await anonymous.request(method, path, json=body, headers=headers)
    assert (reply.status_code, reply.json().get("field")) == (422, field), reply.text


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/documents?limit=0", "limit"),
        ("/documents?limit=1001", "limit"),
        ("/documents?limit=x", "limit"),
        ("/documents?cursor=%00", "cursor"),
        ("/documents?cursor=AAAA", "cursor"),
        ("/tenants/acme_corp/keys?cursor=YWJj", "cursor"),
        ("/metrics/acme_corp?hours=0", "hours"),
        ("/metrics/acme_corp?hours=nan", "hours"),
        ("/metrics/acme_corp?hours=inf", "hours"),
        ("/usage?since=yesterday", "since"),
        ("/usage?since=0001-01-01T00:00:00%2B14:00", "since"),
        ("/usage?until=9999-12-31T23:59:59-14:00", "until"),
        ("/usage?operation=theft", "operation"),
    ],
)
async def test_a_bad_query_string_is_refused_with_its_name(path, field, client):
    reply = await client.get(path)
    assert (reply.status_code, reply.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    "path",
    [
        "/documents/a%00b",
        "/documents/" + "i" * 300,
        "/documents/a%2Fb",
        "/documents/a/versions/x/text",
        "/documents/a/versions/-1/text",
        "/documents/a/versions/99999999999999999999/text",
        "/documents/unknown",
    ],
)
async def test_an_id_that_cannot_exist_is_answered_like_an_unknown_one(path, client):
    reply = await client.get(path)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
