"""The embedded PostgreSQL starts, is shared, survives kills and stops: with real processes."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from compliance_copilot.storage import processes
from compliance_copilot.storage.embedded import open_embedded
from tests.storage.postgres_processes import (
    FAST,
    UserProcess,
    copy_the_wheel_to,
    mode,
    network_sockets,
    open_files,
    postgres_pids,
    postmaster_pid,
    run_sql,
    run_sql_when_back,
)

LINUX_ONLY = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc to see processes as others see them"
)
pytestmark = LINUX_ONLY


@pytest.mark.parametrize("major", [16, 18])
async def test_it_starts_answers_and_has_vectors(data_dir: Path, major: int) -> None:
    async with open_embedded(data_dir, major=major, options=FAST) as server:
        assert server.major == major
        await run_sql(server, "CREATE EXTENSION vector")
        assert await run_sql(server, "SELECT '[3,4]'::halfvec <-> '[0,0]'::halfvec") == 5.0
        shown = await run_sql(server, "SHOW server_version_num")
        assert str(shown).startswith(str(major))
        encoding = "SELECT pg_encoding_to_char(encoding) || datcollate FROM pg_database LIMIT 1"
        assert await run_sql(server, encoding) == "UTF8C"
    assert postgres_pids(data_dir) == []


async def test_sqlalchemy_takes_the_same_address(data_dir: Path) -> None:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    async with open_embedded(data_dir, options=FAST) as server:
        address = server.dsn("postgres", "postgres").replace("://", "+asyncpg://", 1)
        engine = create_async_engine(address)
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
        await engine.dispose()


async def test_by_default_a_commit_survives_the_machine(data_dir: Path) -> None:
    async with open_embedded(data_dir) as server:
        for name in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert await run_sql(server, f"SHOW {name}") == "on"
        assert await run_sql(server, "SHOW timezone") == "UTC"


async def test_it_listens_on_its_private_socket_and_on_no_network(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST) as server:
        assert await run_sql(server, "SHOW listen_addresses") == ""
        files = open_files(postmaster_pid(data_dir))
        assert any(name.startswith("socket:") for name in files)
        assert not files & network_sockets()
        with socket.create_server(("127.0.0.1", 0)):  # the positive twin
            assert open_files(os.getpid()) & network_sockets()


async def test_cluster_and_socket_folder_are_closed_to_others(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST) as server:
        assert mode(data_dir / "postgres-18") == 0o700
        assert mode(server.socket_dir) == 0o700
        assert mode(data_dir / "postgres.log") == 0o600
        assert server.socket_dir.stat().st_uid == (data_dir / "postgres-18").stat().st_uid
    assert not server.socket_dir.exists()


async def test_the_server_gets_none_of_our_open_files(data_dir: Path, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        async with open_embedded(data_dir, options=FAST):
            assert file.name not in open_files(postmaster_pid(data_dir))
            assert file.name in open_files(os.getpid())


async def test_processes_share_one_server_and_the_last_stops_it(data_dir: Path) -> None:
    first, second = UserProcess(data_dir), UserProcess(data_dir)
    assert first.first_line().startswith("ready")
    ready, dsn = second.first_line().split()
    assert ready == "ready"
    pid = postmaster_pid(data_dir)
    assert first.leave() == 0
    assert postmaster_pid(data_dir) == pid
    assert await run_sql(dsn, "SELECT 1") == 1
    assert second.leave() == 0
    assert postgres_pids(data_dir) == []


async def test_one_process_may_open_it_twice(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST) as outer:
        async with open_embedded(data_dir, options=FAST) as inner:
            assert inner == outer
        assert await run_sql(outer, "SELECT 1") == 1
    assert postgres_pids(data_dir) == []


async def test_the_server_of_a_killed_process_is_adopted_and_stopped(data_dir: Path) -> None:
    killed = UserProcess(data_dir)
    assert killed.first_line().startswith("ready")
    killed.kill()
    pid = postmaster_pid(data_dir)
    assert pid in postgres_pids(data_dir)
    async with open_embedded(data_dir, options=FAST) as server:
        assert postmaster_pid(data_dir) == pid
        assert await run_sql(server, "SELECT 1") == 1
    assert postgres_pids(data_dir) == []


async def test_a_leftover_with_other_options_is_not_kept(data_dir: Path) -> None:
    killed = UserProcess(data_dir)
    assert killed.first_line().startswith("ready")
    killed.kill()
    async with open_embedded(data_dir) as server:
        assert await run_sql(server, "SHOW fsync") == "on"


async def test_a_killed_server_comes_back_with_its_data(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST) as server:
        await run_sql(server, "CREATE TABLE kept AS SELECT 42 AS n")
        pid = postmaster_pid(data_dir)
        os.kill(pid, signal.SIGKILL)
        assert await run_sql_when_back(server, "SELECT n FROM kept") == 42
        assert postmaster_pid(data_dir) != pid
    assert postgres_pids(data_dir) == []


async def test_a_long_statement_does_not_hold_up_the_restart(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST) as server:
        endless = "SELECT count(*) FROM generate_series(1, 1e9::bigint) a, generate_series(1, 9) b"
        busy = asyncio.create_task(run_sql(server, endless))
        active = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%1e9%'"
        )
        while await run_sql(server, active) != 2:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)
        os.kill(postmaster_pid(data_dir), signal.SIGKILL)
        assert await run_sql_when_back(server, "SELECT 1") == 1
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await busy
    assert postgres_pids(data_dir) == []


async def test_ending_lost_sessions_ends_no_stranger(data_dir: Path) -> None:
    """Neither in the cluster's folder, nor of its user, nor under a session's title."""
    async with open_embedded(data_dir, options=FAST):
        pass
    folder = data_dir / "postgres-18"
    owner = folder.stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    titled = ["-c", "exec -a 'postgres: somebody' sleep 600"]
    strangers = [
        subprocess.Popen(command, cwd=place, **user)  # type: ignore[call-overload]  # noqa: ASYNC220 - returns at once
        for command in (["sleep", "600"], ["bash", *titled])
        for place in ("/", folder)
        for user in ({}, as_owner)
    ]
    processes.end_sessions_in(folder)
    await asyncio.sleep(0.1)
    assert [stranger.poll() for stranger in strangers] == [None] * len(strangers)
    for stranger in strangers:
        stranger.kill()
        stranger.wait()


async def test_of_several_processes_one_restarts_a_killed_server(data_dir: Path) -> None:
    beside = UserProcess(data_dir)
    assert beside.first_line().startswith("ready")
    async with open_embedded(data_dir, options=FAST) as server:
        for _ in range(3):
            os.kill(postmaster_pid(data_dir), signal.SIGKILL)
            await run_sql_when_back(server, "SELECT 1")
        assert beside.leave() == 0
        assert await run_sql(server, "SELECT 1") == 1
    assert postgres_pids(data_dir) == []


async def test_a_foreign_process_with_the_noted_pid_is_left_alone(data_dir: Path) -> None:
    async with open_embedded(data_dir, options=FAST) as server:
        await run_sql(server, "CREATE TABLE kept AS SELECT 42 AS n")
    folder = data_dir / "postgres-18"
    owner = folder.stat()
    # Of the server's own user: that is the one PostgreSQL itself would take for a server.
    as_owner = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "600"], **as_owner) as foreign:  # type: ignore[call-overload]  # noqa: ASYNC220 - returns at once
        note = folder / "postmaster.pid"
        note.write_text(f"{foreign.pid}\n{folder}\n1\n5432\n{server.socket_dir}\n\n0 0\nready\n")
        os.chown(note, owner.st_uid, owner.st_gid)
        try:
            async with open_embedded(data_dir, options=FAST) as again:
                assert await run_sql(again, "SELECT n FROM kept") == 42
                assert postmaster_pid(data_dir) != foreign.pid
            assert foreign.poll() is None
        finally:
            foreign.kill()


async def test_a_server_whose_installation_is_gone_is_replaced(data_dir: Path) -> None:
    old = copy_the_wheel_to(data_dir.parent / "old")
    killed = UserProcess(data_dir, site=old)
    assert killed.first_line().startswith("ready")
    pid = postmaster_pid(data_dir)
    assert os.readlink(f"/proc/{pid}/exe").startswith(str(old))
    killed.kill()
    shutil.rmtree(old)
    async with open_embedded(data_dir, options=FAST) as server:
        assert postmaster_pid(data_dir) != pid
        await run_sql(server, "CREATE EXTENSION vector")


async def test_a_cancelled_use_leaves_nothing_running(data_dir: Path) -> None:
    opened = asyncio.Event()

    async def use() -> None:
        async with open_embedded(data_dir, options=FAST):
            opened.set()
            await asyncio.sleep(600)

    for wait in (opened.wait, lambda: asyncio.sleep(0.1)):  # in use; then during the start
        task = asyncio.create_task(use())
        await wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert postgres_pids(data_dir) == []
