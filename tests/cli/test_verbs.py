"""Every verb of the command line: help with an example, JSON, completion in the shell."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from compliance_copilot.cli import app

SERVING = {"serve", "worker"}
"""They run until they are stopped and print nothing that a script would read."""


def verbs(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Give each command that does something, with its words."""
    for name, part in getattr(command, "commands", {}).items():
        words = f"{path} {name}".strip()
        yield from verbs(part, words) if hasattr(part, "commands") else [(words, part)]


VERBS = dict(verbs(typer.main.get_command(app)))


@pytest.mark.parametrize("words", VERBS)
def test_a_verbs_help_shows_it_at_work(words: str) -> None:
    shown = CliRunner().invoke(app, [*words.split(), "--help"], terminal_width=200)
    assert shown.exit_code == 0
    plain = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", shown.output).split())
    assert re.search(rf"Examples?: .*compliance-copilot {words}\b", plain), plain


@pytest.mark.parametrize("words", sorted(VERBS.keys() - SERVING))
def test_a_verb_prints_json_on_demand(words: str) -> None:
    assert "--json" in {name for option in VERBS[words].params for name in option.opts}


@pytest.mark.parametrize("words", ["audit key", "secrets new"])
def test_a_new_key_is_printed_bare_or_as_json(words: str) -> None:
    bare = CliRunner().invoke(app, words.split()).output
    told = json.loads(CliRunner().invoke(app, [*words.split(), "--json"]).output)["key"]
    assert len(bare.split()) == 1
    assert len(told) == len(bare.strip())
    assert told != bare.strip()


def test_the_shell_completes_verbs() -> None:
    program = Path(sys.executable).with_name("compliance-copilot")
    press_tab = """
        eval "$(_COMPLIANCE_COPILOT_COMPLETE=source_bash "$0")"
        COMP_WORDS=(compliance-copilot keys r) COMP_CWORD=2
        _compliance_copilot_completion "$0"
        printf '%s ' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", press_tab, program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"rotate", "revoke"}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("compliance-copilot te", "tenants"),
        ("compliance-copilot usage statement --mo", "--month"),
        ("compliance-copilot ask why --model-tier extr", "extractive"),
    ],
)
def test_options_and_their_values_are_completed_too(typed: str, offered: str) -> None:
    asked = {
        "_COMPLIANCE_COPILOT_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    done = CliRunner().invoke(app, [], prog_name="compliance-copilot", env=asked)
    assert done.output.split() == [offered]
