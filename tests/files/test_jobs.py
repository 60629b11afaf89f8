"""Files come in as a job: 202 at once, each file's own outcome, nothing done twice."""

from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from tests.conftest import Customer, make_customer
from tests.files import making
from tests.files.conftest import ended, upload


async def test_an_upload_is_read_and_can_be_cited_by_page(
    client: httpx.AsyncClient, acme: Customer, owner: asyncpg.Connection
) -> None:
    pages = ("The office opens at nine.", "Backups of the ledger are kept for eleven years.")
    archive = making.zipped({"in/notes.md": "# Notes\n\nVisitors sign in.", "in/x.png": b"\x89PNG"})
    files = {"rules/backup.pdf": making.pdf(*pages), "all.zip": archive, "empty.txt": b""}
    reply = await upload(client, acme, files)
    assert reply.status_code == 202, reply.text
    assert set(reply.json()) == {"job_id"}
    job = await ended(client, acme, reply.json()["job_id"])
    assert job["state"] == "partial"
    told = {file["name"]: (file["state"], file.get("reason", "")[:10]) for file in job["files"]}
    assert told == {
        "rules/backup.pdf": ("succeeded", ""),
        "all.zip/in/notes.md": ("succeeded", ""),
        "all.zip/in/x.png": ("failed", "unsupporte"),
        "empty.txt": ("failed", "empty: The"),
    }
    assert job["progress"]["files_done"] == job["progress"]["files_total"] == 4
    assert job["progress"]["chunks_done"] == 3
    question = {"query": "For how many years are backups of the ledger kept?"}
    answer = (await client.post("/query", json=question, headers=acme.headers)).json()
    source = answer["sources"][answer["citations"][0]["source"]]
    assert (source["document_id"], source["page"]) == ("rules:backup.pdf", 2)
    assert await owner.fetchval("SELECT count(*) FROM ingest_uploads") == 0, "the bytes are gone"


async def test_the_ledger_has_the_job_once_and_its_batches_as_attempts(
    client: httpx.AsyncClient, acme: Customer, owner: asyncpg.Connection
) -> None:
    files = {f"{n}.txt": f"Rule {n} holds.".encode() for n in range(20)}
    job_id = (await upload(client, acme, files)).json()["job_id"]
    assert (await ended(client, acme, job_id))["state"] == "succeeded"
    rows = await owner.fetch("SELECT * FROM usage_events ORDER BY attempt")
    assert {str(row["request_id"]) for row in rows} == {job_id}
    assert [(row["attempt"], row["operation"], row["outcome"]) for row in rows] == [
        (1, "ingest", "ok"),
        (2, "ingest", "filed"),
        (3, "ingest", "filed"),
    ]
    counted = await owner.fetchval("SELECT sum(in_minute) FROM admission_windows")
    assert counted == 1, "a job is one request of the minute"
    metrics = (await client.get("/metrics/acme", headers=acme.headers)).json()
    assert metrics["costs"]["total_requests"] == 1
    assert metrics["costs"]["success_rate"] in (1, 100)


async def test_the_same_upload_again_is_no_work(client: httpx.AsyncClient, acme: Customer) -> None:
    files = {"a.md": b"# A\n\nA rule."}
    for status in ("created", "unchanged"):
        job_id = (await upload(client, acme, files)).json()["job_id"]
        job = await ended(client, acme, job_id)
        assert [file["status"] for file in job["files"]] == [status]
        assert job["files"][0]["version"] == 1


async def test_equal_files_are_told_as_a_direct_ingest_tells_them(
    client: httpx.AsyncClient, acme: Customer
) -> None:
    text = b"Backups of the ledger are kept for eleven years."
    files = {"a.txt": text, "b.txt": text, "c.txt": b"Visitors sign in."}
    job_id = (await upload(client, acme, files)).json()["job_id"]

    async def told() -> dict[str, str | None]:
        job = await ended(client, acme, job_id)
        return {file["name"]: file.get("duplicate_of") for file in job["files"]}

    assert await told() == {"a.txt": None, "b.txt": "a.txt", "c.txt": None}
    body = {"documents": [{"document_id": "d", "text": text.decode()}]}
    direct = (await client.post("/ingest", json=body, headers=acme.headers)).json()
    assert direct["documents"][0]["duplicate_of"] == "a.txt"
    erased = await client.delete("/documents/a.txt", headers=acme.headers)
    assert erased.status_code == 202
    assert await told() == {"b.txt": None, "c.txt": None}, "now it is the first"


async def test_files_are_in_force_from_the_instant_that_the_form_names(
    client: httpx.AsyncClient, acme: Customer
) -> None:
    archive = making.zipped({"in/notes.md": "# Notes\n\nVisitors sign in at the gate."})
    later = {"effective_from": "2045-01-01T00:00:00Z"}
    for files, fields in (({"all.zip": archive}, later), ({"now.txt": b"Visitors pay."}, None)):
        job_id = (await upload(client, acme, files, fields)).json()["job_id"]
        assert (await ended(client, acme, job_id))["state"] == "succeeded"

    async def found(**as_of: str) -> set[str]:
        body = {"query": "What do visitors do?", **as_of}
        reply = await client.post("/search", json=body, headers=acme.headers)
        return {result["document_id"] for result in reply.json()["results"]}

    assert await found() == {"now.txt"}
    assert await found(as_of="2045-01-02T00:00:00Z") == {"now.txt", "all.zip:in:notes.md"}


async def test_a_field_of_the_form_is_checked_and_part_of_what_a_key_repeats(
    client: httpx.AsyncClient, acme: Customer
) -> None:
    async def sent(value: str | None) -> tuple[int, str | None]:
        fields = None if value is None else {"effective_from": value}
        files = {"a.md": b"A rule."}
        reply = await upload(client, acme, files, fields, **{"Idempotency-Key": "k"})
        return reply.status_code, reply.json().get("field")

    for wrong in ("", "soon", "2026-11-23", "2026-11-23T10:00:00", "0001-01-01T00:00:00Z"):
        assert await sent(wrong) == (422, "effective_from"), wrong
    assert (await sent("2045-01-01T00:00:00Z"))[0] == 202
    assert (await sent("2045-01-01T00:00:00Z"))[0] == 202
    assert (await sent(None))[0] == 422, "another request under the same key"
    assert (await upload(client, acme, {"a.md": b"A rule."}, {"other": "x"})).status_code == 422


async def test_an_idempotency_key_makes_one_job(client: httpx.AsyncClient, acme: Customer) -> None:
    first = await upload(client, acme, {"a.md": b"A rule."}, **{"Idempotency-Key": "k"})
    again = await upload(client, acme, {"a.md": b"A rule."}, **{"Idempotency-Key": "k"})
    other = await upload(client, acme, {"a.md": b"Another."}, **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 422)
    assert first.json() == again.json()
    jobs = (await client.get("/jobs", headers=acme.headers)).json()["jobs"]
    assert [job["job_id"] for job in jobs] == [first.json()["job_id"]]
    await ended(client, acme, first.json()["job_id"])


async def test_the_limit_on_documents_refuses_what_is_over_it_and_no_more(
    client: httpx.AsyncClient,
) -> None:
    service = client.application.state.gateway.service  # type: ignore[attr-defined]
    small = await make_customer(service, "small", limits={"max_documents": 3})
    files = {f"{n}.txt": f"Rule {n} holds.".encode() for n in range(5)}
    job = await ended(client, small, (await upload(client, small, files)).json()["job_id"])
    assert [file["state"] for file in job["files"]].count("succeeded") == 3
    reasons = {file["reason"][:14] for file in job["files"] if file["state"] == "failed"}
    assert reasons == {"limit_reached:"}


async def test_another_tenants_job_is_as_unknown_as_none(
    client: httpx.AsyncClient, acme: Customer
) -> None:
    service = client.application.state.gateway.service  # type: ignore[attr-defined]
    other = await make_customer(service, "other")
    job_id = (await upload(client, acme, {"a.txt": b"A rule."})).json()["job_id"]
    await ended(client, acme, job_id)

    async def seen(customer: Customer, name: str, method: str, tail: str = "") -> Any:
        reply = await client.request(method, f"/jobs/{name}{tail}", headers=customer.headers)
        body = {k: v for k, v in reply.json().items() if k != "request_id"}
        return reply.status_code, body

    for method, tail in (("GET", ""), ("POST", "/cancel")):
        assert (await seen(acme, job_id, method, tail))[0] == 200
        theirs = await seen(other, job_id, method, tail)
        assert theirs == await seen(other, str(uuid4()), method, tail)
        assert theirs == await seen(other, "no-uuid", method, tail)
        assert theirs[0] == 404
    assert (await client.get("/jobs", headers=other.headers)).json()["jobs"] == []
