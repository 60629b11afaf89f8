"""Acceptance row 14: revoked keys and changed limits hold for the next request on four workers.

    python benchmarks/isolation_workers.py --rounds 20 --workers 4

Starts the real service with its worker processes, and asks over many connections after each
change, so that every worker is met.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
ADMIN_KEY = "an-admin-key-for-benchmarks-of-40-letters"
QUESTION = {"query": "How long are customer records kept?"}
ASKED = 40


def start(folder: Path, port: int, workers: int) -> subprocess.Popen[bytes]:
    """Start the service in a process group of its own."""
    environment = {
        **os.environ,
        "DATA_DIR": str(folder),
        "API_PORT": str(port),
        "WORKERS": str(workers),
        "ADMIN_API_KEY": ADMIN_KEY,
        "LOAD_EXAMPLES": "false",
        "ENVIRONMENT": "production",
        "AUDIT_SIGNING_KEY": "5a0b1c2d3e4f6978" * 4,
        "SECRETS_KEY": "a-secrets-key-for-drills-of-40-characters",
        "DRAIN_NOTICE_SECONDS": "0",
    }
    command = [sys.executable, "-m", "compliance_copilot.cli", "serve"]
    log = (folder / "service.log").open("w")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


async def wait_for(url: str) -> None:
    """Wait until the service answers."""
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            try:
                if (await client.get(f"{url}/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise SystemExit("the service did not come up")


async def ask_everywhere(url: str, secret: str) -> Counter[int]:
    """Ask over fresh connections, so that the kernel spreads them over the workers."""

    async def ask() -> int:
        async with httpx.AsyncClient() as client:
            headers = {"Authorization": f"Bearer {secret}"}
            while True:  # 503: shed before the key was looked at, so nothing was decided
                reply = await client.post(f"{url}/query", json=QUESTION, headers=headers)
                if reply.status_code != 503:
                    return reply.status_code
                await asyncio.sleep(0.1)

    return Counter(await asyncio.gather(*(ask() for _ in range(ASKED))))


async def run(url: str, rounds: int) -> int:
    """Change and ask; 0 when every next request met the change."""
    operator = {"X-API-Key": ADMIN_KEY}
    limits = {
        "requests_per_minute": None, "max_queries_per_hour": None, "max_concurrent_requests": None,
    }  # fmt: skip
    late: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=url, headers=operator) as client:
        made = await client.post(
            "/tenants", json={"tenant_id": "acme", "name": "Acme", "limits": limits}
        )
        made.raise_for_status()
        for _ in range(rounds):
            key = (
                await client.post("/tenants/acme/keys", json={"name": "round", "scopes": ["query"]})
            ).json()
            before = await ask_everywhere(url, key["secret"])
            late["refused before revocation"] += ASKED - before[200] - before[429]
            await client.delete(f"/tenants/acme/keys/{key['key_id']}")
            after = await ask_everywhere(url, key["secret"])
            # An address with many refused keys is told 429 before its key is looked at.
            late["served after revocation"] += ASKED - after[401] - after[429]

            secret = made.json()["api_key"]["secret"]
            await client.patch("/tenants/acme", json={"limits": {"max_queries_per_hour": 0}})
            closed = await ask_everywhere(url, secret)
            late["served after the limit was lowered"] += ASKED - closed[429]
            await client.patch("/tenants/acme", json={"limits": limits})
            opened = await ask_everywhere(url, secret)
            late["refused after the limit was lifted"] += ASKED - opened[200]
    for name, count in late.items():
        print(f"{name}: {count} of {rounds * ASKED}")
    return 1 if sum(late.values()) else 0


def main() -> int:
    """Start the workers, run the rounds, stop the workers by their pid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4)
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="cc-workers-") as folder:
        service = start(Path(folder), port, given.workers)
        try:
            asyncio.run(wait_for(url))
            print(f"{given.workers} workers, {given.rounds} rounds, {ASKED} requests after each")
            return asyncio.run(run(url, given.rounds))
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(30)


if __name__ == "__main__":
    sys.exit(main())
