"""The rules of a reading are the code that it comes from: all of it, and nothing else."""

import ast
from pathlib import Path

from compliance_copilot import rag
from compliance_copilot.rag.reading import READERS

ROOM = Path(rag.__file__).parent


def imported(name: str) -> set[str]:
    """Return the modules of the room that a module of it imports."""
    nodes = ast.walk(ast.parse((ROOM / f"{name}.py").read_text(encoding="utf-8")))
    found = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    named = {str(n.module): {alias.name for alias in n.names} for n in found}
    direct = {m.removeprefix(f"{rag.__name__}.") for m in named if m.startswith(f"{rag.__name__}.")}
    return direct | named.get(rag.__name__, set())


def test_the_readers_are_the_reading_and_all_that_it_imports() -> None:
    seen: set[str] = set()
    waiting = {"reading"}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting |= imported(name) - seen
    assert sorted(seen) == list(READERS)
    assert len(seen) > 5
