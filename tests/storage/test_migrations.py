"""Both PostgreSQL versions run the same schema and the same main road."""

from pathlib import Path

import asyncpg
import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.core.vocabulary import NewDocument, QueryReply
from compliance_copilot.settings import Settings, load_settings
from compliance_copilot.storage import migrations
from compliance_copilot.wiring import open_service
from tests.conftest import PASSWORD, ROLE, Server, make_customer


@pytest.mark.parametrize("major", [16, 18])
async def test_the_main_road_runs_on_the_embedded_server(tmp_path: Path, major: int) -> None:
    settings = load_settings(environment="test", data_dir=tmp_path, embedded_postgres_version=major)
    async with open_service(settings) as service:
        rows = await service.tenants._database.call_platform("SHOW server_version_num")
        assert int(rows[0]["server_version_num"]) // 10_000 == major
        await make_customer(service, "acme", config={"retrieval_mode": "hybrid"})
        text = "# Backups\n\nBackups are kept for thirty days."
        await service.copilot.ingest("acme", [NewDocument(text, "backups")])
        reply = await service.copilot.query("acme", "How long are backups kept?")
        assert isinstance(reply, QueryReply)
        assert "thirty days" in reply.answer


async def test_migrating_again_changes_nothing(server: Server, database_name: str) -> None:
    dsn = server.owner_dsn(database_name)
    assert await migrations.present(dsn) == migrations.head()
    await migrations.migrate(dsn, role=ROLE, password=PASSWORD)
    assert await migrations.present(dsn) == migrations.head()


async def test_a_schema_behind_the_code_is_refused_with_the_command_that_mends_it(
    settings: Settings, owner: asyncpg.Connection
) -> None:
    serving_only = settings.model_copy(update={"database_owner_url": None})
    async with open_service(serving_only):
        pass  # up to date: the owner's address is not needed
    await owner.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(SetupError, match="compliance-copilot migrate") as refused:
        async with open_service(serving_only):
            pass
    assert "\n" not in refused.value.detail
