"""The queue: fair between tenants, nothing lost or done twice when a process dies, no poison."""

import asyncio
import os
import signal
import sys
from hashlib import sha256
from pathlib import Path

import asyncpg

from compliance_copilot.core.clock import new_id
from compliance_copilot.orchestrator import Service
from compliance_copilot.orchestrator.rooms import Call
from compliance_copilot.rag.jobs import FileOutcome, Job, NewFile
from compliance_copilot.settings import Settings
from compliance_copilot.storage import queue
from compliance_copilot.wiring import working
from tests.conftest import Customer, make_customer


def files_of(folder: Path, name: str, count: int) -> list[NewFile]:
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"{name}-{number}.txt"
        path.write_text(f"Rule {number} of {name} holds for everybody.")
        found.append(
            NewFile(path.name, path, path.stat().st_size, sha256(path.read_bytes()).digest())
        )
    return found


async def accepted(service: Service, customer: Customer, files: list[NewFile]) -> Job:
    call = Call(request_id=new_id())
    job_id = await service.filing.accept(customer.tenant_id, files, call=call)
    return await service.filing.jobs.require(customer.tenant_id, job_id)


async def ended(service: Service, customer: Customer, job: Job) -> Job:
    async with asyncio.timeout(120):
        while True:
            job = await service.filing.jobs.require(customer.tenant_id, job.job_id)
            if job.state not in {"queued", "running"}:
                return job
            await asyncio.sleep(0.05)


async def test_a_tenant_with_many_files_does_not_hold_up_one_with_few(
    service: Service, settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    many, few = await make_customer(service, "many"), await make_customer(service, "few")
    first = await accepted(service, many, files_of(tmp_path, "many", 200))
    second = await accepted(service, few, files_of(tmp_path, "few", 3))
    assert second.progress.place_in_line == 1, "behind the first batch only"
    async with working(service, settings):
        await ended(service, few, second)
        done = await service.filing.jobs.require(many.tenant_id, first.job_id)
        assert done.state == "running"
        assert (await ended(service, many, first)).state == "succeeded"
    assert await owner.fetchval("SELECT count(*) FROM pgqueuer") == 0


async def test_a_cancelled_job_stops_and_what_is_stored_stays(
    service: Service, settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    acme = await make_customer(service, "acme")
    job = await accepted(service, acme, files_of(tmp_path, "a", 40))
    stopped = await service.filing.jobs.cancel(acme.tenant_id, job.job_id)
    assert stopped.state == "cancelled"
    assert {file["state"] for file in stopped.files} == {"cancelled"}
    assert await owner.fetchval("SELECT count(*) FROM ingest_uploads") == 0
    other = await accepted(service, acme, files_of(tmp_path, "b", 1))
    async with working(service, settings):
        assert (await ended(service, acme, other)).state == "succeeded"
    assert await owner.fetchval("SELECT count(*) FROM documents") == 1
    kept = await service.filing.jobs.cancel(acme.tenant_id, other.job_id)
    assert kept.state == "succeeded", "what is finished is not undone"


async def test_a_batch_whose_process_dies_each_time_is_given_up(
    service: Service, settings: Settings, tmp_path: Path
) -> None:
    acme = await make_customer(service, "acme")
    job = await accepted(service, acme, files_of(tmp_path, "poison", 1))
    async with service.filing.jobs._database.transaction(acme.tenant_id) as connection:
        queue_id = await connection.fetchval("SELECT queue_id FROM ingest_files")
    ticket = queue.Ticket(acme.tenant_id, job.job_id, queue_id)
    for _ in range(3):
        assert len(await service.filing.jobs.begin(ticket)) == 1  # and then the process dies
    good = await accepted(service, acme, files_of(tmp_path, "good", 1))
    async with working(service, settings):
        assert (await ended(service, acme, good)).state == "succeeded"
        given_up = await ended(service, acme, job)
    assert given_up.state == "failed"
    assert given_up.files[0]["reason"].startswith("crashed: ")


async def test_a_file_that_processes_die_of_fails_alone(service: Service, tmp_path: Path) -> None:
    acme = await make_customer(service, "acme")
    job = await accepted(service, acme, files_of(tmp_path, "a", 3))
    jobs, key = service.filing.jobs, (acme.tenant_id, job.job_id)
    async with jobs._database.transaction(acme.tenant_id) as connection:
        queue_id = await connection.fetchval("SELECT max(queue_id) FROM ingest_files")
    ticket, tried = queue.Ticket(*key, queue_id), []
    while files := await jobs.begin(ticket):
        tried.append([file.place for file in files])
        if tried[-1] == [0] or tried[-1] == [2]:
            await jobs.finish(*key, [FileOutcome(tried[-1][0], "succeeded")])
        # the process dies of the file in the middle
    assert tried == [[0, 1, 2], [0], [1], [2], [1]]
    ended = await jobs.require(*key)
    assert [file["state"] for file in ended.files] == ["succeeded", "failed", "succeeded"]
    assert ended.files[1]["reason"].startswith("crashed: ")


async def test_what_is_put_off_because_something_is_away_costs_no_try(
    service: Service, tmp_path: Path
) -> None:
    acme = await make_customer(service, "acme")
    job = await accepted(service, acme, files_of(tmp_path, "a", 2))
    jobs = service.filing.jobs
    async with jobs._database.transaction(acme.tenant_id) as connection:
        queue_id = await connection.fetchval("SELECT max(queue_id) FROM ingest_files")
    ticket = queue.Ticket(acme.tenant_id, job.job_id, queue_id)
    for _ in range(5):
        files = await jobs.begin(ticket)
        assert [file.place for file in files] == [0, 1]
        await jobs.put_back(ticket, files)


WORKER = """
import asyncio, sys
from pathlib import Path
from compliance_copilot.settings import load_settings
from compliance_copilot.wiring import open_service, working

async def main():
    settings = load_settings(environment="test", database_url=sys.argv[1],
                             data_dir=Path(sys.argv[2]), load_examples=False)
    async with open_service(settings) as service, working(service, settings):
        await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_killed_workers_batches_are_done_by_another_and_none_twice(
    service: Service, settings: Settings, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    acme = await make_customer(service, "acme")
    job = await accepted(service, acme, files_of(tmp_path, "a", 320))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    assert settings.database_url is not None
    finished = "SELECT place, finished_at FROM ingest_files WHERE state = 'succeeded'"
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(script), settings.database_url.get_secret_value(),
        str(tmp_path / "other"), env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            while not await owner.fetch(finished):  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.01)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait()
    before = {tuple(row) for row in await owner.fetch(finished)}
    async with working(service, settings):
        assert (await ended(service, acme, job)).state == "succeeded"
    assert before
    assert before <= {tuple(row) for row in await owner.fetch(finished)}, "finished once"
    rows = await owner.fetchrow(
        "SELECT (SELECT count(*) FROM documents) AS documents,"
        " (SELECT count(*) FROM document_versions) AS versions,"
        " (SELECT count(*) FROM ingest_uploads) AS uploads"
    )
    assert dict(rows) == {"documents": 320, "versions": 320, "uploads": 0}
