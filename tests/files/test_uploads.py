"""What arrives at the door: too much, half of it, or no form at all leaves nothing."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from compliance_copilot.gateway import uploads
from tests.conftest import Customer
from tests.files.conftest import upload

BOUNDARY = "b0undary"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
).encode()
END = f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(autouse=True)
def leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Temporary files go into a folder of the test's own, which is empty again at its end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert [path.name for path in folder.iterdir() if path.name.startswith("upload-")] == []


async def send(
    client: httpx.AsyncClient, customer: Customer, body: Any, kind: str | None = None
) -> httpx.Response:
    headers = {"Content-Type": kind or f"multipart/form-data; boundary={BOUNDARY}"}
    return await client.post(
        "/ingest/files", content=body, headers={**customer.headers, **headers}, timeout=120
    )


async def test_an_upload_over_the_bound_is_413_with_and_without_its_length(
    client: httpx.AsyncClient, acme: Customer, owner: asyncpg.Connection
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield HEAD
        for _ in range(200):
            yield bytes(2**20)
        yield END

    reply = await send(client, acme, endless())
    assert reply.status_code == 413
    assert reply.json()["limit_bytes"] == uploads.LARGEST_UPLOAD_BYTES
    headers = {"Content-Length": str(200 * 2**20)}
    early = await client.post(
        "/ingest/files",
        content=b"",
        headers={
            **acme.headers,
            **headers,
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        },
    )
    assert early.status_code == 413
    assert await owner.fetchval("SELECT count(*) FROM ingest_jobs") == 0


async def test_an_upload_cut_half_way_leaves_nothing(
    client: httpx.AsyncClient, acme: Customer, owner: asyncpg.Connection
) -> None:
    for body in (HEAD + b"half a fi", HEAD, b"", b"no form"):
        reply = await send(client, acme, body)
        assert reply.status_code in {400, 422}, reply.text
        assert reply.headers["content-type"] == "application/problem+json"
    assert await owner.fetchval("SELECT count(*) FROM ingest_jobs") == 0
    assert await owner.fetchval("SELECT count(*) FROM usage_events") == 0
    whole = await send(client, acme, HEAD + b"A rule." + END)
    assert whole.status_code == 202


async def test_only_files_in_the_named_field_are_taken(
    client: httpx.AsyncClient, acme: Customer
) -> None:
    assert (await send(client, acme, b"{}", "application/json")).status_code == 415
    assert (await send(client, acme, b"x", "multipart/form-data")).status_code == 400
    other = HEAD.replace(b'name="files"', b'name="other"') + b"A rule." + END
    assert (await send(client, acme, other)).status_code == 422


async def test_a_name_cannot_lead_anywhere(client: httpx.AsyncClient, acme: Customer) -> None:
    reply = await upload(client, acme, {"../../etc/./a\\..\\b.txt": b"A rule."})
    job = await client.get(f"/jobs/{reply.json()['job_id']}", headers=acme.headers)
    assert job.json()["files"][0]["name"] == "etc/a/b.txt"
