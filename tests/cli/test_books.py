"""The command line for finance, the auditor and whoever restores: statement, log, backup."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import CommandLine


@pytest.fixture
def ledgered(cli: CommandLine) -> CommandLine:
    """A deployment in which a tenant has asked something."""
    if "books" not in cli("tenants", "list").out:
        assert cli("tenants", "create", "books").status == 0
        assert cli("ask", "What is kept?", "--tenant", "books").status == 0
    return cli


def test_a_statement_is_drawn_and_written_down(ledgered: CommandLine) -> None:
    drawn = ledgered("usage", "statement", "books", "--json").json
    assert drawn["tenant_id"] == "books"
    assert sum(line["events"] for line in drawn["lines"]) >= 1
    assert "books" in ledgered("usage", "statement", "books").out
    entries = ledgered("audit", "list", "--tenant", "books", "--json").json["entries"]
    assert entries[0]["action"] == "statement.exported"
    assert entries[0]["actor"] == "cli"
    assert ledgered("usage", "statement", "books", "--month", "11/2026").status == 1


def test_reconciling_finds_what_the_ledger_does_not_know(
    ledgered: CommandLine, tmp_path: Path
) -> None:
    export = tmp_path / "export.csv"
    export.write_text("id,input_tokens,output_tokens\n")
    agreed = ledgered("usage", "reconcile", "--provider-export", export, "--json").json
    assert agreed["differences"] == []
    export.write_text("id,input_tokens,output_tokens\nresp-1,10,20\n")
    done = ledgered("usage", "reconcile", "--provider-export", export, "--tenant", "books")
    assert done.status == 1
    assert "not_in_ledger" in done.out
    missing = ledgered("usage", "reconcile", "--provider-export", tmp_path / "none.csv")
    assert "cannot be read" in missing.complaint


def test_an_exported_log_is_verified_alone_and_a_changed_one_is_not(
    ledgered: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / "log.jsonl"
    assert ledgered("audit", "export", "--tenant", "books", "--output", file).status == 0
    elsewhere = CommandLine(tmp_path / "never-made")
    verdict = elsewhere("audit", "verify", file, "--json").json
    assert verdict["valid"] is True
    assert elsewhere("audit", "verify", file, "--public-key", verdict["public_key"]).status == 0
    assert not (tmp_path / "never-made").exists(), "no database was started for it"
    file.write_text(file.read_text().replace("tenant.created", "tenant.creates"))
    changed = elsewhere("audit", "verify", file, "--json")
    assert changed.status == 1
    assert json.loads(changed.out)["fault"]["position"] >= 1
    assert ledgered("audit", "verify", "--tenant", "books").status == 0
    assert ledgered("audit", "verify").status == 0
    key = elsewhere("audit", "key").out.strip()
    assert len(bytes.fromhex(key)) == 32


def test_a_backup_is_restored_on_another_machine(ledgered: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    told = ledgered("backup", folder, "--json").json
    assert "empty folder" in ledgered("backup", folder).complaint
    elsewhere = CommandLine(tmp_path / "elsewhere", {"LOAD_EXAMPLES": "false"})
    restored = elsewhere.process("restore", folder, "--json").json
    assert {**restored, "folder": ""} == {**told, "folder": ""}
    assert "has tenants already" in ledgered("restore", folder).complaint
    assert "not a whole backup" in elsewhere("restore", tmp_path).complaint


def test_help_starts_without_the_service() -> None:
    loaded = "import sys, compliance_copilot.cli; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"pydantic", "dynaconf", "numpy", "fastapi", "asyncpg", "openai", "anthropic"}
    assert heavy & set(modules) == set()
    assert "typer" in modules
