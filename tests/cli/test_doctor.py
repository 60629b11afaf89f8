"""doctor: a healthy deployment passes; each fault is named, with what to do about it."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from compliance_copilot.cli import database_findings
from compliance_copilot.cli import doctor as doctors
from compliance_copilot.core.clock import utc_now
from compliance_copilot.settings import Settings
from compliance_copilot.storage.embedded import open_embedded
from tests.conftest import Server
from tests.standins.running import RunningProvider

from .conftest import CommandLine, Done, listening

PRODUCTION = {
    "ENVIRONMENT": "production",
    "AUDIT_SIGNING_KEY": "5a0b1c2d3e4f6978" * 4,
    "SECRETS_KEY": "Zr2BnM5cYd7FgH1jPs4AeUXk3v9TqLw8",
}


def failing(done: Done) -> dict[str, str]:
    """Return the name of each failing line with the advice below it."""
    assert done.status == 1, done.out
    lines = done.out.splitlines()
    found = {
        line.split()[1].rstrip(":"): lines[number + 1].strip()
        for number, line in enumerate(lines)
        if line.startswith("failed")
    }
    assert all(advice.startswith("-> ") for advice in found.values()), done.out
    assert "Traceback" not in done.out + done.err
    return found


def test_a_healthy_deployment_passes_and_no_key_is_shown(
    cli: CommandLine, provider: RunningProvider
) -> None:
    secret = "sk-0123456789-of-somebody"
    told = {
        "OPENAI_API_KEY": secret,
        "OPENAI_BASE_URL": provider.openai_url,
        "ANTHROPIC_API_KEY": secret,
        "ANTHROPIC_BASE_URL": provider.url,
    }
    done = cli("doctor", **PRODUCTION, **told)
    assert done.status == 0, done.out
    assert "failed" not in done.out
    for words in (
        "pgvector",
        "bound by row-level security",
        "fsync is on",
        f"OPENAI_API_KEY is set and taken by {provider.openai_url}/models",
        f"ANTHROPIC_API_KEY is set and taken by {provider.url}/v1/models",
        "signs with the key",
        "is free",
    ):
        assert words in done.out
    assert secret not in done.out + done.err
    assert all(call["headers"].get("authorization") != secret for call in provider.calls())


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
    assert "API_PORT" in found["port"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"API_PORT": "many"}, "API_PORT: "),
        ({**PRODUCTION, "AUDIT_SIGNING_KEY": ""}, "AUDIT_SIGNING_KEY: production needs one"),
        ({**PRODUCTION, "AUDIT_SIGNING_KEY": "short"}, "`compliance-copilot audit key`"),
        ({**PRODUCTION, "SECRETS_KEY": ""}, "`compliance-copilot secrets new`"),
        ({"SECRETS_KEY": "short"}, "SECRETS_KEY: each key needs 32 characters"),
        ({**PRODUCTION, "DEBUG": "true"}, "set DEBUG=false"),
    ],
)
def test_a_setting_that_cannot_hold_is_told_and_ends_the_look(
    cli: CommandLine, broken: dict[str, str], words: str
) -> None:
    done = cli("doctor", **broken)
    assert list(failing(done)) == ["settings"]
    assert words in done.out


def test_a_key_that_its_provider_refuses_is_told(
    cli: CommandLine, provider: RunningProvider
) -> None:
    provider.fault("401")
    secret = "sk-of-last-year"
    keys = {"ANTHROPIC_API_KEY": secret, "ANTHROPIC_BASE_URL": provider.url}
    done = cli("doctor", **keys)
    assert failing(done) == {
        "anthropic": "-> Set ANTHROPIC_API_KEY to a key that is valid there, or remove it."
    }
    assert secret not in done.out + done.err
    provider.fault("503")
    done = cli("doctor", **keys)
    assert done.status == 0, "a provider that is down is not the deployment's fault"
    assert "answers 503" in done.out
    done = cli("doctor", **{**keys, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"})
    assert done.status == 0
    assert "cannot be reached" in done.out


def test_a_signing_key_of_the_disk_that_is_damaged_is_told(
    cli: CommandLine, tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "signing.key").write_text("half a k")
    done = cli("doctor", DATA_DIR=str(tmp_path), DATABASE_URL=database_url)
    assert "audit" in failing(done)
    assert "signing.key" in done.out


def test_a_disk_that_takes_no_more_is_told(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctors, "_LEAST_FREE_BYTES", 2**70)  # more than any disk has
    assert set(failing(cli("doctor"))) == {"disk"}
    monkeypatch.undo()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, before[1]))
    try:
        done = cli("doctor")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert set(failing(done)) == {"DATA_DIR"}


def test_a_clock_that_goes_wrong_is_told(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = utc_now() + timedelta(hours=1)
    monkeypatch.setattr(database_findings, "utc_now", lambda: ahead)
    found = failing(cli("doctor"))
    assert set(found) == {"clock"}
    assert "NTP" in found["clock"]


@pytest.fixture
def database_url(settings: Settings) -> str:
    """The serving role's address of the test's own database."""
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


async def test_a_role_that_row_level_security_would_not_bind_is_told(cli: CommandLine) -> None:
    async with open_embedded(cli.data_dir) as server:
        address = server.dsn(server.superuser, "compliance_copilot")
    done = await asyncio.to_thread(cli, "doctor", DATABASE_URL=address)
    assert list(failing(done)) == ["database"]
    assert "is a superuser" in done.out


async def test_a_wrong_password_is_told_without_either(cli: CommandLine) -> None:
    rules = next(cli.data_dir.rglob("pg_hba.conf"))
    async with open_embedded(cli.data_dir) as server:
        address = urlsplit(server.dsn("careful", "compliance_copilot"))
        host = address.netloc.rpartition("@")[2]
        wrong = address._replace(netloc=f"careful:not-the-right-one@{host}").geturl()
        owner = await asyncpg.connect(server.dsn(server.superuser, "compliance_copilot"))
        await owner.execute("CREATE ROLE careful LOGIN PASSWORD 'the-right-one'")
        with asking_for_passwords(rules, "careful"):
            await owner.execute("SELECT pg_reload_conf()")
            await until_refused(wrong)
            done = await asyncio.to_thread(cli, "doctor", DATABASE_URL=wrong)
        await owner.execute("SELECT pg_reload_conf()")
        await owner.execute("DROP ROLE careful")
        await owner.close()
    assert list(failing(done)) == ["database"]
    assert "password authentication failed" in done.out
    assert "check host, database, name and password" in done.out
    assert "the-right-one" not in done.out + done.err


@contextmanager
def asking_for_passwords(rules: Path, role: str) -> Iterator[None]:
    """Let the embedded server ask one role for its password, as a managed one does."""
    before = rules.read_text()
    rules.write_text(f"local all {role} scram-sha-256\n{before}")
    try:
        yield
    finally:
        rules.write_text(before)


async def until_refused(address: str) -> None:
    """Wait until the server has read its rules anew."""
    while True:
        try:
            await (await asyncpg.connect(address)).close()
        except asyncpg.InvalidPasswordError:
            return


async def test_a_database_without_pgvector_or_with_an_old_one_is_told(
    cli: CommandLine, server: Server, database_name: str, owner: asyncpg.Connection
) -> None:
    empty = f"{database_name}_empty"
    await server.administer(f"CREATE DATABASE {empty}")
    try:
        done = await asyncio.to_thread(cli, "doctor", DATABASE_URL=server.serving_dsn(empty))
    finally:
        await server.administer(f"DROP DATABASE {empty} WITH (FORCE)")
    assert "CREATE EXTENSION vector" in failing(done)["pgvector"]

    await owner.execute("UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    there = server.serving_dsn(database_name)
    done = await asyncio.to_thread(cli, "doctor", DATABASE_URL=there)
    assert list(failing(done)) == ["database"]
    assert "ALTER EXTENSION vector UPDATE" in done.out


async def test_a_server_that_would_lose_commits_is_told(
    cli: CommandLine, database_url: str, owner: asyncpg.Connection
) -> None:
    name = urlsplit(database_url).path.lstrip("/")
    await owner.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    done = await asyncio.to_thread(cli, "doctor", DATABASE_URL=database_url)
    assert set(failing(done)) == {"durability"}
    assert "synchronous_commit is off" in done.out


async def test_a_table_that_is_not_forced_into_its_tenant_is_told(
    cli: CommandLine, database_url: str, owner: asyncpg.Connection
) -> None:
    await owner.execute("ALTER TABLE documents NO FORCE ROW LEVEL SECURITY")
    done = await asyncio.to_thread(cli, "doctor", DATABASE_URL=database_url)
    assert "isolation" in failing(done)
    assert "not forced on documents" in done.out
