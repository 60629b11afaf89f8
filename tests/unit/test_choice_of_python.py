"""Which interpreter the first start makes `.venv` with (scripts/choose_python.sh)."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "choose_python.sh"


class Interpreters:
    """Stand-ins that answer the two questions of the script by their exit status."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str, *, fits: bool, optimized: bool) -> str:
        path = self._folder / name
        path.write_text(
            f'#!/bin/sh\ncase "$2" in\n*CONFIG_ARGS*) exit {int(not optimized)} ;;\n'
            f"*version_info*) exit {int(not fits)} ;;\nesac\nexit 9\n"
        )
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def interpreters(tmp_path: Path) -> Interpreters:
    return Interpreters(tmp_path)


def chosen(*candidates: str) -> str:
    command = ["bash", "-euc", f'. "{SCRIPT}"; chosen_python "$@"', "bash", *candidates]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_an_optimized_interpreter_is_taken_before_a_plain_one(interpreters: Interpreters) -> None:
    plain = interpreters.make("plain", fits=True, optimized=False)
    quick = interpreters.make("quick", fits=True, optimized=True)
    assert chosen(plain, quick) == quick
    assert chosen(quick, plain) == quick


def test_a_plain_one_is_taken_when_there_is_no_better(interpreters: Interpreters) -> None:
    plain = interpreters.make("plain", fits=True, optimized=False)
    old = interpreters.make("old", fits=False, optimized=True)
    assert chosen(old, plain, "/nowhere/python3") == plain


def test_none_is_taken_when_none_fits(interpreters: Interpreters) -> None:
    assert chosen(interpreters.make("old", fits=False, optimized=True), "/nowhere/python3") == ""


def test_real_interpreters_can_be_asked() -> None:
    assert chosen("python3") == "python3"
