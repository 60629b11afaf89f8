"""doctor: a healthy deployment passes; each fault is named, with what to do about it."""

from pathlib import Path

import asyncpg
import pytest

from compliance_copilot.settings import Settings
from compliance_copilot.storage.embedded import open_embedded

from .conftest import CommandLine, Done, listening


def failing(done: Done) -> dict[str, str]:
    """Return the name of each failing line with the advice below it."""
    assert done.status == 1, done.out
    lines = done.out.splitlines()
    return {
        line.split()[1].rstrip(":"): lines[number + 1].strip()
        for number, line in enumerate(lines)
        if line.startswith("failed")
    }


def test_a_healthy_deployment_passes_and_no_key_is_shown(cli: CommandLine) -> None:
    secret = "sk-0123456789-of-somebody"
    done = cli("doctor", OPENAI_API_KEY=secret)
    assert done.status == 0, done.out
    assert "failed" not in done.out
    for told in ("pgvector", "bound by row-level security", "fsync is on", "OPENAI_API_KEY is set"):
        assert told in done.out
    assert secret not in done.out + done.err


def test_each_broken_part_is_named_with_its_remedy(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    port = int(cli.settings["API_PORT"])
    with listening(port):
        found = failing(
            cli(
                "doctor",
                DATA_DIR=str(tmp_path / "file" / "data"),
                DATABASE_URL="postgresql://nobody:wrong@127.0.0.1:1/none",
                GENERATION_PROVIDER="anthropic",
            )
        )
    assert set(found) == {"DATA_DIR", "database", "generation", "port"}
    assert all(advice.startswith("-> ") for advice in found.values())
    assert "API_PORT" in found["port"]


def test_a_setting_that_cannot_be_read_is_told_and_ends_the_look(cli: CommandLine) -> None:
    done = cli("doctor", API_PORT="many")
    assert list(failing(done)) == ["settings"]
    assert "API_PORT" in done.out


async def test_a_role_that_row_level_security_would_not_bind_is_told(cli: CommandLine) -> None:
    async with open_embedded(cli.data_dir) as server:
        address = server.dsn(server.superuser, "compliance_copilot")
    done = cli.process("doctor", DATABASE_URL=address)
    assert list(failing(done)) == ["database"]
    assert "is a superuser" in done.out


async def test_a_server_that_would_lose_commits_is_told(
    cli: CommandLine, settings: Settings, owner: asyncpg.Connection
) -> None:
    assert settings.database_url is not None
    if await owner.fetchval("SHOW fsync") == "on":
        pytest.skip("the suite's server was not told to trade durability for speed")
    done = cli.process("doctor", DATABASE_URL=settings.database_url.get_secret_value())
    assert set(failing(done)) == {"durability"}
    assert "fsync is off" in done.out


async def test_a_table_that_is_not_forced_into_its_tenant_is_told(
    cli: CommandLine, settings: Settings, owner: asyncpg.Connection
) -> None:
    assert settings.database_url is not None
    await owner.execute("ALTER TABLE documents NO FORCE ROW LEVEL SECURITY")
    done = cli.process("doctor", DATABASE_URL=settings.database_url.get_secret_value())
    assert "isolation" in failing(done)
    assert "not forced on documents" in done.out
