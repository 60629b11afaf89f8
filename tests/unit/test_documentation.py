"""What the documents say is what the code does: settings, routes, and twin scripts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from app import app
from compliance_copilot.cli import app as command_line
from compliance_copilot.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
EXAMPLE_ENV = (ROOT / ".env.example").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
METHODS = {"get", "post", "put", "patch", "delete"}
# The same step in both languages; a line that fits none of them is not a step.
STEPS = (
    ("project folder", r'cd "\$\(dirname|Set-Location'),
    ("version check", r"sys\.version_info < \(3, 11\)"),
    ("venv", r"-m venv \.venv"),
    ("install", r"pip install --quiet -r requirements\.txt"),
    ("stamp", r"> \.venv/installed$|Set-Content -NoNewline \.venv/installed"),
    ("import path", r'PYTHONPATH ?= ?"?\."?$'),
    ("serve", r"compliance-copilot serve (\"\$@\"|@args)$"),
    ("test", r"python -m pytest -q -n 2 (\"\$@\"|@args)$"),
)
INSTALLING = ["project folder", "version check", "venv", "install", "stamp"]


def section(title: str, page: str = README) -> str:
    """Return a page's text below a heading of the second level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_cells(title: str) -> list[str]:
    """Return the code at the start of each row of a table of the reference."""
    return re.findall(r"^\| `([^`]+)` \|", section(title, REFERENCE), re.MULTILINE)


def steps(script: str) -> list[str]:
    """Return the steps of a script in order, those of the script it reads in their place."""
    return [name for line in lines(script) for name, form in STEPS if re.search(form, line)]


def lines(script: str) -> Iterator[str]:
    """Give each line that is no comment, following `. scripts/install.*`."""
    for line in (ROOT / "scripts" / script).read_text(encoding="utf-8").splitlines():
        read = re.fullmatch(r"\. scripts/(\S+)", line)
        if read:
            yield from lines(read[1])
        elif not line.startswith("#"):
            yield line.strip()


def verbs(commands: typer.Typer, before: str = "") -> Iterator[str]:
    """Give every verb of the command line, sub-commands after their group."""
    for command in commands.registered_commands:
        assert command.callback
        yield before + (command.name or command.callback.__name__).replace("_", "-")
    for group in commands.registered_groups:
        assert group.typer_instance
        yield from verbs(group.typer_instance, f"{group.name} ")


def test_every_setting_is_in_the_reference_and_nothing_else_is() -> None:
    assert sorted(first_cells("Settings")) == sorted(VARIABLES)


def test_every_name_of_the_example_environment_is_a_setting() -> None:
    named = re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE_ENV, re.MULTILINE)
    assert named
    assert set(named) <= set(VARIABLES)


def test_every_setting_can_be_found_in_the_example_environment() -> None:
    named = re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE_ENV, re.MULTILINE)
    assert sorted(set(VARIABLES) - set(named)) == []


def test_every_route_is_in_the_reference_and_nothing_else_is() -> None:
    served = {
        f"{method.upper()} {path}"
        for path, operations in app.openapi()["paths"].items()
        for method in operations
        if method in METHODS
    }
    assert len(served) > 20
    assert sorted(first_cells("HTTP routes")) == sorted(served)


def test_every_verb_of_the_command_line_is_in_the_readme() -> None:
    text = section("Command line")
    documented: set[str] = set()
    for code in re.findall(r"`([^`]+)`", text):
        group, _, rest = code.partition(" ")
        several = rest.split("|") if re.fullmatch(r"[a-z|]+", rest) else []
        documented |= {f"{group} {verb}" for verb in several} or {group}
    assert sorted(set(verbs(command_line)) - documented) == []
    assert documented - set(verbs(command_line)) == {"compliance-copilot", ".venv/bin", "--help"}


@pytest.mark.parametrize(
    ("script", "last"), [("run_api", ["serve"]), ("run_tests", ["import path", "test"])]
)
def test_the_scripts_for_windows_have_the_same_steps(script: str, last: list[str]) -> None:
    assert steps(f"{script}.sh") == INSTALLING + last
    assert steps(f"{script}.ps1") == steps(f"{script}.sh")


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    ],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    missing = [t for t in LINK.findall(page.read_text("utf-8")) if not (page.parent / t).exists()]
    assert missing == []


def test_decision_records_are_numbered_without_a_twin() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(r.name[:4]) for r in records]
    assert len(set(numbers)) == len(numbers)
    for record in records:
        assert record.read_text("utf-8").startswith(f"# {int(record.name[:4])}. ")


def test_the_library_example_of_the_readme_compiles() -> None:
    found = re.search(r"```python\n(.*?)```", section("Use it as a library"), re.DOTALL)
    assert found
    compile(found[1], "README.md", "exec")
