"""A real Prometheus on loopback, for the tests of `tests_check` and for `dashboards.py`."""

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "deploy" / "prometheus" / "scrape" / "prometheus.yml"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"


@dataclass(frozen=True)
class Prometheus:
    """Where it listens."""

    url: str

    def ask(self, path: str, **arguments: str) -> Any:
        """Return the data of an API call. Raises OSError."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(address, timeout=10) as reply:  # noqa: S310 - loopback
            return json.load(reply)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series an expression gives now."""
        return self.ask("query", query=expression)["result"]

    def during(self, expression: str, start: float, end: float) -> list[Any]:
        """Return the series an expression gave between two instants, second by second."""
        span = {"start": f"{start:.0f}", "end": f"{end:.0f}", "step": "1"}
        return self.ask("query_range", query=expression, **span)["result"]

    def firing(self) -> list[dict[str, str]]:
        """Return the labels of the alerts that fire."""
        return [a["labels"] for a in self.ask("alerts")["alerts"] if a["state"] == "firing"]


@contextmanager
def running_prometheus(
    folder: Path, *, port: int, target: str, key: str, every_seconds: int = 1
) -> Iterator[Prometheus]:
    """Run Prometheus with the deployment's own files against a target while the context lasts."""
    (folder / "platform.key").write_text(key)
    text = CONFIGURATION.read_text("utf-8").replace("15s", f"{every_seconds}s")
    text = text.replace("127.0.0.1:8000", target).replace("../alerts.yml", "alerts.yml")
    (folder / "prometheus.yml").write_text(text)
    alerts = ALERTS.read_text("utf-8").replace("interval: 15s", f"interval: {every_seconds}s")
    (folder / "alerts.yml").write_text(alerts)
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]  # fmt: skip
    log = (folder / "prometheus.log").open("wb")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        _wait(prometheus, process, folder / "prometheus.log")
        yield prometheus
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait(prometheus: Prometheus, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            prometheus.query("up")
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise RuntimeError(f"Prometheus did not start:\n{log.read_text(errors='replace')[-2000:]}")
