"""The embedded PostgreSQL in places and versions that do not suit it, and as other users."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.embedded import open_embedded
from tests.storage.postgres_processes import (
    FAST,
    UserProcess,
    copy_the_wheel_to,
    mode,
    postgres_pids,
    postmaster_pid,
    run_sql,
    run_sql_when_back,
)

LINUX_ONLY = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc to see processes as others see them"
)
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
pytestmark = LINUX_ONLY


@pytest.mark.parametrize("name", ["x" * 120, "a folder, with 'signs' & ünïcode"])
async def test_a_data_dir_that_no_socket_fits_works(data_dir: Path, name: str) -> None:
    deep = data_dir / name
    async with open_embedded(deep, options=FAST) as server:
        assert await run_sql(server, "SELECT 1") == 1
        assert mode(server.socket_dir) == 0o700
        assert not server.socket_dir.is_relative_to(data_dir)
    assert not server.socket_dir.exists()


async def test_a_socket_folder_that_is_open_to_others_is_refused(data_dir: Path) -> None:
    deep = data_dir / ("x" * 120)
    async with open_embedded(deep, options=FAST) as server:
        folder = server.socket_dir
    folder.mkdir()
    folder.chmod(0o777)
    try:
        with pytest.raises(SetupError, match="not the database's own folder"):
            async with open_embedded(deep, options=FAST):
                pass
    finally:
        folder.rmdir()


async def test_an_unusable_data_dir_is_told_in_one_line(data_dir: Path) -> None:
    os.close(os.open(data_dir, os.O_CREAT))
    with pytest.raises(SetupError, match=r"DATA_DIR .* cannot be used .*; give it to") as told:
        async with open_embedded(data_dir, options=FAST):
            pass
    assert "\n" not in told.value.detail


async def test_a_cluster_of_another_version_is_told_in_one_line(data_dir: Path) -> None:
    async with open_embedded(data_dir, major=16, options=FAST):
        pass
    with pytest.raises(SetupError, match=r"postgres-16 was made by another PostgreSQL"):
        async with open_embedded(data_dir, major=18, options=FAST):
            pass
    (data_dir / "postgres-16" / "PG_VERSION").write_text("13\n")
    with pytest.raises(SetupError, match="made by PostgreSQL 13, 16 is asked for"):
        async with open_embedded(data_dir, major=16, options=FAST):
            pass


async def test_an_unknown_version_and_bad_options_are_told(data_dir: Path) -> None:
    with pytest.raises(SetupError, match="choose 16 or 18"):
        async with open_embedded(data_dir, major=17):
            pass
    with pytest.raises(SetupError, match=r"did not start .*no_such_option") as told:
        async with open_embedded(data_dir, options={"no_such_option": "1"}):
            pass
    assert "\n" not in told.value.detail
    assert postgres_pids(data_dir) == []


async def test_a_start_that_was_killed_while_it_made_the_cluster_is_no_obstacle(
    data_dir: Path,
) -> None:
    half = data_dir / "postgres-18.new.1234"
    half.mkdir(parents=True)
    async with open_embedded(data_dir, options=FAST) as server:
        assert await run_sql(server, "SELECT 1") == 1
    assert not half.exists()


async def test_a_data_dir_removed_in_use_leaves_no_server(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST):
        shutil.rmtree(data_dir / "postgres-18")
    assert postgres_pids(data_dir) == []


@ROOT_ONLY
async def test_below_a_folder_closed_to_the_servers_user_it_works_and_opens_nothing(
    data_dir: Path,
) -> None:
    closed = data_dir.parent / "closed"
    os.mkdir(closed, 0o700)
    async with open_embedded(closed / "data", options=FAST) as server:
        await run_sql(server, "CREATE EXTENSION vector", "CREATE TABLE kept AS SELECT 42 AS n")
        os.kill(postmaster_pid(closed / "data"), signal.SIGKILL)
        assert await run_sql_when_back(server, "SELECT n FROM kept") == 42
        assert mode(closed) == 0o700
    assert postgres_pids(closed) == []


@ROOT_ONLY
async def test_an_installation_closed_to_the_servers_user_is_copied_once(data_dir: Path) -> None:
    site = copy_the_wheel_to(data_dir.parent / "closed" / "site")
    os.chmod(data_dir.parent / "closed", 0o700)
    for _ in range(2):
        process = UserProcess(data_dir, site=site)
        ready, dsn = process.first_line().split()
        assert ready == "ready"
        await run_sql(dsn, "CREATE EXTENSION IF NOT EXISTS vector")
        program = os.readlink(f"/proc/{postmaster_pid(data_dir)}/exe")
        assert program.startswith(str(data_dir))
        assert process.leave() == 0
    assert len([name for name in os.listdir(data_dir) if name.startswith("pginstall18-")]) == 1
    assert mode(data_dir.parent / "closed") == 0o700


@ROOT_ONLY
async def test_an_ordinary_user_can_run_it_and_is_told_what_is_not_his(data_dir: Path) -> None:
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    os.mkdir(data_dir)
    refused = UserProcess(data_dir, *as_nobody)
    assert "cannot be used (Permission denied" in refused.first_line()
    assert refused.leave() == 2
    os.chown(data_dir, 65534, 65534)
    ordinary = UserProcess(data_dir, *as_nobody)
    assert ordinary.first_line().startswith("ready")
    assert (data_dir / "postgres-18").stat().st_uid == 65534
    assert ordinary.leave() == 0
    # Root beside him runs the same cluster as its owner.
    async with open_embedded(data_dir, options=FAST):
        assert (data_dir / "postgres-18" / "postmaster.pid").stat().st_uid == 65534
    assert postgres_pids(data_dir) == []
