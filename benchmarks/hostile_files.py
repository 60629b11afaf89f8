"""Files that try to take the service down, one by one through the door (row 16).

Builds them itself, sends each through `POST /ingest/files` of a service in this process, and
prints what came of it, how long that took, and how much the service has grown. Another tenant's
question is asked after each.

    python -m benchmarks.hostile_files [FOLDER]

With a folder, its files are sent as well: each has to end in text or in a reason.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from compliance_copilot.core.vocabulary import NewDocument
from compliance_copilot.gateway.application import build_application
from compliance_copilot.settings import load_settings
from compliance_copilot.tenancy.tenants import NewTenant
from compliance_copilot.wiring import open_served
from tests.files import making

MOST_SECONDS, MOST_GROWTH = 10.0, 64.0
UNLIMITED = {
    "max_queries_per_hour": None,
    "requests_per_minute": None,
    "max_concurrent_requests": None,
}


def resident() -> float:
    return psutil.Process().memory_info().rss / 2**20


async def job_of(client: httpx.AsyncClient, key: str, path: Path) -> tuple[str, list[Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    with path.open("rb") as file:
        reply = await client.post("/ingest/files", files=[("files", ("f", file))], headers=headers)
    if reply.status_code != 202:
        return f"{reply.status_code} {reply.json().get('code')}", []
    while True:
        job = (await client.get(f"/jobs/{reply.json()['job_id']}", headers=headers)).json()
        if job["state"] not in {"queued", "running"}:
            return job["state"], job["files"]
        await asyncio.sleep(0.05)


async def ask(client: httpx.AsyncClient, key: str) -> bool:
    body = {"query": "How long are records kept?"}
    reply = await client.post("/query", json=body, headers={"Authorization": f"Bearer {key}"})
    return "seven years" in reply.json().get("answer", "")


def files_of(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.rglob("*")) if path.is_file()}


def told(state: str, files: list[Any]) -> str:
    reasons = sorted({file.get("reason", file["state"]).partition(":")[0] for file in files})
    return f"{state}: {', '.join(reasons)}" if files else state


async def run(folder: Path | None) -> bool:
    with tempfile.TemporaryDirectory() as place:
        hostile = making.hostile(Path(place) / "hostile")
        large = Path(place) / "large"
        with large.open("wb") as file:
            file.truncate(200 * 2**20)
        paths = {**hostile, "200 MB upload": large}
        if folder is not None:
            paths |= files_of(folder)
        settings = load_settings(
            data_dir=Path(place) / "data", load_examples=False, log_level="WARNING"
        )
        application = build_application(lambda: open_served(settings))
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(application)
            url = "http://service"
            async with httpx.AsyncClient(transport=transport, base_url=url, timeout=120) as client:
                return await send_all(application.state.gateway.service, client, paths)


async def send_all(service: Any, client: httpx.AsyncClient, paths: dict[str, Path]) -> bool:
    keys = {}
    for name in ("hostile", "quiet"):
        _, key = await service.tenants.create(NewTenant(name, name, {}, UNLIMITED), set_by="test")
        keys[name] = key.secret
    document = NewDocument("Customer records are kept for seven years.", "records")
    await service.copilot.ingest("quiet", [document])
    good = Path(tempfile.gettempdir()) / "good-file"
    good.write_text("A good file.")
    await job_of(client, keys["hostile"], good)  # the reading process is up from here on
    before, well = resident(), True
    print(f"{'file':28} {'outcome':44} {'seconds':>8} {'MiB grown':>10} other tenant")
    for what, path in paths.items():
        began = time.monotonic()
        state, files = await job_of(client, keys["hostile"], path)
        seconds, grown = time.monotonic() - began, resident() - before
        answered = await ask(client, keys["quiet"])
        within = seconds <= MOST_SECONDS and grown <= MOST_GROWTH and answered
        well &= within
        mark = "answered" if answered else "FAILED"
        print(
            f"{what[:28]:28} {told(state, files)[:44]:44} {seconds:8.2f} {grown:10.1f} {mark}"
            f"{'' if within else '   MISSED'}"
        )
    return well


if __name__ == "__main__":
    fine = asyncio.run(run(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    print("verdict:", "ok" if fine else "MISSED")
    sys.exit(0 if fine else 1)
