"""ingest, ask, search, usage: a folder goes in, answers with quotes come out."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from compliance_copilot.core.clock import utc_now
from compliance_copilot.gateway.application import build_application
from compliance_copilot.gateway.state import Deployment
from compliance_copilot.settings import load_settings
from compliance_copilot.wiring import open_service
from tests.files.making import docx, pdf, xlsx, zipped

from .conftest import CommandLine

LEAVE = "# Leave Policy\n\n## Days\n\nEmployees have 30 days of annual leave in each year.\n"
TRAVEL = "# Travel Policy\n\nTrain tickets are booked in second class by the travel desk.\n"
QUESTION = "How many days of annual leave do employees have?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of policies, with what a walk should pass by."""
    place = tmp_path / "policies"
    (place / "staff").mkdir(parents=True)
    (place / "staff" / "leave.md").write_text(LEAVE)
    (place / "travel.txt").write_text(TRAVEL)
    (place / "logo.png").write_bytes(b"\x89PNG")
    (place / ".git").mkdir()
    (place / ".git" / "notes.md").write_text("Not a policy.")
    return place


def statuses(files: list[dict]) -> dict[str, str]:
    return {file["document_id"]: file["status"] for file in files}


def test_a_folder_is_walked_and_only_what_changed_is_taken_in_again(
    cli: CommandLine, folder: Path
) -> None:
    cli("tenants", "create", "folder_co")

    def ingest() -> dict[str, str]:
        return statuses(cli("ingest", folder, "--tenant", "folder_co", "--json").json["files"])

    rest = {"logo.png": "passed by"}
    assert ingest() == {"staff:leave.md": "created", "travel.txt": "created"} | rest
    assert ingest() == {"staff:leave.md": "unchanged", "travel.txt": "unchanged"} | rest
    (folder / "travel.txt").write_text(TRAVEL.replace("second", "first"))
    assert ingest() == {"staff:leave.md": "unchanged", "travel.txt": "updated"} | rest


def test_all_kinds_of_files_go_in_and_a_citation_names_the_page_or_the_cells(
    cli: CommandLine, tmp_path: Path
) -> None:
    place = tmp_path / "mixed"
    place.mkdir()
    (place / "leave.pdf").write_bytes(pdf("Cover", "Employees have 30 days of annual leave."))
    sheet = {"A1": "Server", "B1": "Owner", "A2": "kestrel", "B2": "The platform team"}
    (place / "assets.xlsx").write_bytes(xlsx({"Inventory": sheet}))
    (place / "old.zip").write_bytes(zipped({"a/b.docx": docx("# Fire", "Meet at gate four.")}))
    cli("tenants", "create", "mixed_co")
    done = cli("ingest", place, "--tenant", "mixed_co", "--json").json
    assert statuses(done["files"]) == {
        "leave.pdf": "created",
        "assets.xlsx": "created",
        "old.zip:a:b.docx": "created",
    }
    answer = cli("ask", QUESTION, "--tenant", "mixed_co", "--json").json
    cited = answer["sources"][answer["citations"][0]["source"]]
    assert (cited["document_id"], cited["page"]) == ("leave.pdf", 2)
    found = cli("search", "owner of kestrel", "--tenant", "mixed_co", "--json").json["results"]
    assert "Inventory!A1:B2" in found[0]["section"]


def test_equal_files_are_told_and_each_is_found(cli: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "twins"
    place.mkdir()
    for name in ("a.md", "b.md"):
        (place / name).write_text(LEAVE)
    cli("tenants", "create", "twin_co")
    files = cli("ingest", place, "--tenant", "twin_co", "--json").json["files"]
    assert [file["duplicate_of"] for file in files] == [None, "a.md"]
    found = cli("search", QUESTION, "--tenant", "twin_co", "--json").json["results"]
    assert {result["document_id"] for result in found} == {"a.md", "b.md"}


def over_http(cli: CommandLine, key: str, path: str) -> str:
    """Return what the service says to a GET."""
    settings = load_settings(environment="test", data_dir=cli.data_dir, load_examples=False)

    async def get() -> str:
        application = build_application(
            partial(open_service, settings), lambda: Deployment("test", None)
        )
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                reply = await client.get(path, headers={"Authorization": f"Bearer {key}"})
                assert reply.status_code == 200, reply.text
                return reply.text

    return asyncio.run(get())


def test_a_changed_paragraph_is_a_version_and_yesterday_is_answered_from_the_old_one(
    cli: CommandLine, tmp_path: Path
) -> None:
    place = tmp_path / "policies"
    place.mkdir()
    (place / "leave.md").write_text(LEAVE)
    (place / "fire.pdf").write_bytes(pdf("Fire Policy", "In a fire everybody meets at gate four."))
    (place / "visits.docx").write_bytes(docx("# Visitors", "Every visitor wears a red badge."))
    key = cli("tenants", "create", "policy_co", "--json").json["api_key"]["secret"]
    ingest = ("ingest", place, "--tenant", "policy_co", "--json")
    last_week = (utc_now() - timedelta(days=7)).strftime("%Y-%m-%d")
    yesterday = (utc_now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    first = cli(*ingest, "--effective-from", last_week).json
    assert first["counts"] == {"created": 3}

    def cited(question: str, *options: str) -> tuple[str, str, int, str | None, int | None]:
        body = cli("ask", question, "--tenant", "policy_co", *options, "--json").json
        citation = body["citations"][0]
        source = body["sources"][citation["source"]]
        place = (source["document_id"], source["version"], source["section"], source["page"])
        return (citation["quote"], *place)

    fire = "In a fire everybody meets at gate four."
    assert cited("Where does everybody meet in a fire?") == (fire, "fire.pdf", 1, None, 2)
    badge = "Every visitor wears a red badge."
    assert cited("Which badge does a visitor wear?") == (badge, "visits.docx", 1, "Visitors", None)
    old = "Employees have 30 days of annual leave in each year."
    section = "Days"
    assert cited(QUESTION) == (old, "leave.md", 1, section, None)

    (place / "leave.md").write_text(LEAVE.replace("30 days", "28 days"))
    assert cli(*ingest).json["counts"] == {"unchanged": 2, "updated": 1}
    assert cited(QUESTION) == (old.replace("30", "28"), "leave.md", 2, section, None)
    assert cited(QUESTION, "--as-of", yesterday) == (old, "leave.md", 1, section, None)
    assert over_http(cli, key, "/documents/leave.md/versions/1/text") == LEAVE


def test_a_file_that_cannot_be_taken_in_fails_alone_and_is_named(
    cli: CommandLine, folder: Path
) -> None:
    cli("tenants", "create", "broken_co")
    (folder / "empty.md").touch()  # refused by the service, from the middle of a call
    (folder / "torn.docx").write_bytes(docx("A rule.")[:-300])
    done = cli("ingest", folder, folder / "logo.png", "no-such-folder", "--tenant", "broken_co")
    assert done.status == 1
    assert "2 created, 4 failed" in done.out
    for reason in ("file is empty", "damaged", "It is a picture", "no such file or folder"):
        assert reason in done.out
    (folder / "empty.md").unlink()
    (folder / "torn.docx").unlink()
    assert cli("ingest", folder, "--tenant", "broken_co").status == 0


def test_a_refused_tenant_takes_nothing_in(cli: CommandLine, folder: Path) -> None:
    done = cli("ingest", folder, "--tenant", "nobody")
    assert done.status == 1
    assert "3 failed" in done.out
    assert "Traceback" not in done.err


def test_an_answer_shows_its_quote_and_where_it_stands(cli: CommandLine, folder: Path) -> None:
    cli("tenants", "create", "asking_co")
    cli("ingest", folder, "--tenant", "asking_co")
    shown = cli.process("ask", QUESTION, "--tenant", "asking_co", "--retrieval-mode", "hybrid")
    quote = "Employees have 30 days of annual leave in each year."
    start = LEAVE.index(quote)
    assert f'[1] "{quote}"' in shown.out
    assert f"(staff:leave.md, version 1, characters {start}-{start + len(quote)}" in shown.out
    assert "Leave Policy" in shown.out

    body = cli("ask", QUESTION, "--tenant", "asking_co", "--top-k", "1", "--json").json
    citation = body["citations"][0]
    assert LEAVE[citation["start"] : citation["end"]] == citation["quote"]
    assert len(body["sources"]) == 1
    found = cli("search", "train tickets", "--tenant", "asking_co", "--json").json["results"]
    assert found[0]["document_id"] == "travel.txt"

    used = cli("usage", "show", "asking_co", "--json").json
    assert used["total_queries"] == 2
    events = cli("usage", "events", "asking_co", "--operation", "query", "--json").json["events"]
    assert [event["state"] for event in events] == ["settled", "settled"]
    assert "nobody" in cli("usage", "show", "nobody").complaint
