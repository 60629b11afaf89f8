"""ingest --watch: a real process keeps a folder in step, and Ctrl-C ends it cleanly."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import IO, Any

from compliance_copilot.cli.watching import Outcome, _gone

from .conftest import LONGEST_SECONDS, CommandLine


def told(output: IO[str]) -> Iterator[dict[str, str]]:
    """Give, walk by walk, what a watching process says it did: status by document."""
    text = ""
    for line in output:
        text += line
        if line == "}\n":
            said: dict[str, Any] = json.loads(text)
            yield {file["document_id"]: file["status"] for file in said["files"]}
            text = ""


def test_a_watched_folder_is_kept_in_step_until_ctrl_c(cli: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "policies"
    place.mkdir()
    (place / "leave.md").write_text("# Leave\n\nThirty days.")
    cli("tenants", "create", "watch_co")
    watching = subprocess.Popen(
        cli.command("ingest", place, "--tenant", "watch_co", "--watch", "--json"),
        env=cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = Timer(4 * LONGEST_SECONDS, watching.kill)
    patience.start()
    try:
        assert watching.stdout is not None
        walks = told(watching.stdout)
        assert next(walks) == {"leave.md": "created"}
        (place / "fire.md").write_text("# Fire\n\nMeet at gate four.")
        assert next(walks) == {"fire.md": "created"}
        (place / "leave.md").write_text("# Leave\n\nTwenty days.")
        assert next(walks) == {"leave.md": "updated"}
        (place / "fire.md").unlink()
        assert next(walks) == {"fire.md": "erased"}
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=LONGEST_SECONDS)
        assert (watching.returncode, err) == (0, "")
    finally:
        patience.cancel()
        watching.kill()
        watching.wait()
    found = cli("search", "gate", "--tenant", "watch_co", "--json").json["results"]
    assert {result["document_id"] for result in found} == {"leave.md"}


def test_nothing_is_forgotten_because_it_cannot_be_read_just_now(tmp_path: Path) -> None:
    before = [
        Outcome("a.md", "unchanged", "a.md"),
        Outcome("b.md", "created", "b.md"),
        Outcome("c.zip/d.md", "updated", "c.zip:d.md"),
        Outcome("logo.png", "passed by", "logo.png"),
    ]
    now = [Outcome("b.md", "failed", "b.md"), Outcome("c.zip", "failed", "c.zip")]
    assert _gone(before, now, [tmp_path]) == [("a.md", "a.md")]
    assert _gone(before, now, [tmp_path, tmp_path / "not mounted"]) == []
