"""Every command that a document names exists, with these words and these options."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from compliance_copilot.cli import app as command_line
from compliance_copilot.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "docs" / "operations.md",
    *sorted(ROOT.glob("docs/operations/*.md")),
]
COMMAND = re.compile(r"compliance-copilot ([a-z][^`\n]*)")
VARIABLE = re.compile(r"^\s*([A-Z][A-Z_]{3,})=", re.MULTILINE)
THEIRS = {"FORWARDED_ALLOW_IPS"}  # uvicorn's own


def commands_of(page: Path) -> list[str]:
    """Return what follows the program's name in code: fences and backticks."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", text, re.DOTALL)
    code += re.findall(r"`([^`\n]+)`", text)
    return [found for part in code for found in COMMAND.findall(part)]


def problem_of(words: list[str]) -> str | None:
    """Return what is wrong with a command, None when it exists."""
    command = typer.main.get_command(command_line)
    path: list[str] = []
    while hasattr(command, "commands"):
        word = words.pop(0) if words else ""
        if "|" in word:  # a list of verbs, as the README writes it
            missing = [w for w in word.split("|") if w not in command.commands]
            return f"no verb {missing}" if missing else None
        if word not in command.commands:
            return f"no verb {word!r} after {path}"
        path.append(word)
        command = command.commands[word]
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    unknown = [w for w in words if w.startswith("--") and w.split("=")[0] not in known | {"--help"}]
    return f"{path} has no {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_document_exists(page: Path) -> None:
    faults = {}
    for text in commands_of(page):
        bare = re.split(r"\s[;|&>#·]|[;)]|\.\.\.", text)[0]
        problem = problem_of([w for w in shlex.split(bare) if w != "\\"])
        if problem:
            faults[text] = problem
    assert faults == {}


def test_a_command_that_does_not_exist_is_found() -> None:
    assert problem_of(["tenants", "create", "acme", "--name", "A"]) is None
    assert problem_of(["tenants", "creates", "acme"]) is not None
    assert problem_of(["tenants", "create", "acme", "--colour"]) is not None
    assert len(commands_of(ROOT / "docs" / "operations.md")) >= 15


def test_every_variable_that_operations_sets_is_a_setting() -> None:
    for page in (ROOT / "docs" / "operations.md", *(ROOT / "docs" / "operations").glob("*.md")):
        named = set(re.findall(r"`([A-Z][A-Z_]{3,})=", page.read_text())) | set(
            VARIABLE.findall(page.read_text())
        )
        assert named - set(VARIABLES) - THEIRS == set(), page
