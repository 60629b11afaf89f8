"""Changing what a document is called, listing a part of them, mirroring a folder."""

from hashlib import sha256

import asyncpg
import httpx
import pytest

from compliance_copilot.tenancy.tenants import TenantChange
from tests.isolation.conftest import World, application, world  # noqa: F401 - fixtures

QUESTION = {"query": "How long are customer records kept?"}


async def search(world: World) -> list[dict]:  # noqa: F811
    reply = await world.client.post("/search", json=QUESTION, headers=world.alpha.headers)
    assert reply.status_code == 200, reply.text
    return reply.json()["results"]


async def test_a_new_title_is_a_version_with_the_same_text_ranks_and_scores(
    world: World,  # noqa: F811
    owner: asyncpg.Connection,
) -> None:
    before = await search(world)
    counted = (
        "SELECT chunks, total_length, pinned_length, documents FROM corpora ORDER BY tenant_id"
    )
    statistics = await owner.fetch(counted)
    path = "/documents/retention-alpha"
    change = {"title": "Keeping records", "metadata": {"owner": "legal"}}
    for _ in range(2):  # the second time nothing is left to change
        reply = await world.client.patch(path, json=change, headers=world.alpha.headers)
        assert reply.status_code == 200, reply.text
        told = reply.json()
        assert (told["version"], told["title"]) == (2, "Keeping records")
    after = await search(world)
    assert {r["version"] for r in after} == {2}
    assert {r["title"] for r in after} == {"Keeping records"}
    assert [(r["text"], r["score"]) for r in after] == [(r["text"], r["score"]) for r in before]
    assert await owner.fetch(counted) == statistics
    versions = await world.client.get(f"{path}/versions", headers=world.alpha.headers)
    first, second = versions.json()["versions"]
    assert first["title"] != second["title"] == "Keeping records"
    assert (first["current"], second["current"]) == (False, True)
    texts = [
        (await world.client.get(f"{path}/versions/{n}/text", headers=world.alpha.headers)).text
        for n in (1, 2)
    ]
    assert texts[0] == texts[1]


async def test_a_new_title_counts_towards_the_limit_on_bytes(world: World) -> None:  # noqa: F811
    path, headers = "/documents/retention-alpha", world.alpha.headers
    tenants = world.application.state.gateway.service.tenants
    size = len((await world.client.get(f"{path}/versions/1/text", headers=headers)).content)
    for room, status in ((size - 1, 429), (size, 200)):
        limits = {"max_bytes": size + room}
        await tenants.update(world.alpha.tenant_id, TenantChange(limits=limits))
        reply = await world.client.patch(path, json={"title": "Keeping records"}, headers=headers)
        assert reply.status_code == status, reply.text
        if status == 429:
            assert (reply.json()["limit"], reply.json()["quota"]) == ("max_bytes", size + room)
            again = await world.client.get(path, headers=headers)
            assert (again.json()["version"], again.json()["title"]) == (
                1,
                "Retention of canaryalpha",
            )


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"title": "back"}, ["b"]),
        ({"source": "rules/"}, ["a", "b"]),
        ({"metadata": '{"team": "legal"}'}, ["a", "c"]),
        ({"metadata": '{"team": "legal"}', "source": "rules/"}, ["a"]),
        ({"updated_since": "2999-01-01T00:00:00Z"}, []),
        ({"title": "%"}, []),
    ],
)
async def test_documents_are_listed_by_title_source_metadata_and_change(
    world: World,  # noqa: F811
    parameters: dict[str, str],
    found: list[str],
) -> None:
    await store(world, {"a": "legal", "b": "it"}, "rules/")
    await store(world, {"c": "legal"}, "other/")
    reply = await world.client.get("/documents", params=parameters, headers=world.alpha.headers)
    assert reply.status_code == 200, reply.text
    assert [d["document_id"] for d in reply.json()["documents"]] == found


async def store(world: World, teams: dict[str, str], folder: str) -> None:  # noqa: F811
    titles = {"a": "Access", "b": "Backups", "c": "Contracts"}
    documents = [
        {
            "document_id": name,
            "title": titles[name],
            "text": f"Rule {name} of the team.",
            "metadata": {"team": team},
            "source_path": f"{folder}{name}.md",
            "source_hash": hash_of(name),
        }
        for name, team in teams.items()
    ]
    reply = await world.client.post(
        "/ingest", json={"documents": documents}, headers=world.alpha.headers
    )
    assert reply.status_code == 200, reply.text


def hash_of(content: str) -> str:
    return sha256(content.encode()).hexdigest()


async def sync(world: World, **body: object) -> httpx.Response:  # noqa: F811
    return await world.client.put("/documents:sync", json=body, headers=world.alpha.headers)


async def test_a_manifest_tells_what_is_wanted_and_what_is_gone_and_erases_on_demand(
    world: World,  # noqa: F811
) -> None:
    await store(world, {"a": "legal", "b": "it"}, "rules/")
    await store(world, {"c": "legal"}, "other/")
    files = [
        {"path": "rules/a.md", "hash": hash_of("a")},
        {"path": "rules/new.md", "hash": hash_of("new")},
    ]
    told = (await sync(world, files=files, prefix="rules/")).json()
    gone = {"document_id": "b", "path": "rules/b.md", "erasure_id": None}
    assert told == {"wanted": ["rules/new.md"], "unchanged": 1, "gone": [gone]}
    files[0]["hash"] = hash_of("changed")
    told = (await sync(world, files=files, prefix="rules/", delete=True)).json()
    assert told["wanted"] == ["rules/a.md", "rules/new.md"]
    erasure = told["gone"][0]["erasure_id"]
    reply = await world.client.get(f"/erasures/{erasure}", headers=world.alpha.headers)
    assert reply.json()["state"] == "finished"
    assert (await sync(world, files=files, prefix="rules/")).json()["gone"] == []
    listed = await world.client.get("/documents", headers=world.alpha.headers)
    assert [d["document_id"] for d in listed.json()["documents"]] == ["a", "c", "retention-alpha"]
    for faulty in ([files[0], files[0]], [{"path": "other/c.md", "hash": hash_of("c")}]):
        refused = await sync(world, files=faulty, prefix="rules/")
        assert refused.status_code == 422, refused.text
