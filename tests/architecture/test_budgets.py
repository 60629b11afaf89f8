"""Files and functions keep their budgets; an exception is a line in decision 0012."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOM = ROOT / "src" / "compliance_copilot"
FILES = {path.relative_to(ROOM).as_posix(): path for path in ROOM.rglob("*.py")}
RECORD = (ROOT / "docs/decisions/0012-files-over-the-budget.md").read_text("utf-8")
FILE_LINES, MOST_FILE_LINES, FUNCTION_LINES, PARAMETERS = 300, 400, 30, 6
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, node


def lines_of(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def length(function: Function) -> int:
    """Return the lines of a body, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: Function) -> list[str]:
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [n for n in names if n not in ("self", "cls")]


def test_a_file_over_the_budget_is_in_the_record_and_none_is_over_the_most() -> None:
    over = {name for name, path in FILES.items() if lines_of(path) > FILE_LINES}
    files = RECORD.partition("The budget of a function")[0]
    listed = {n for n in re.findall(r"`([a-z_/0-9]+\.py)`", files) if n in FILES}
    assert over - listed == set()
    assert {name for name, path in FILES.items() if lines_of(path) > MOST_FILE_LINES} == set()


def test_a_function_over_the_budget_is_in_the_record() -> None:
    listed = RECORD.partition("The budget of a function")[2].partition("More than six")[0]
    over = {(name, f.name) for name, f in functions() if length(f) > FUNCTION_LINES}
    unlisted = {(n, f) for n, f in over if f"`{n}`" not in listed or f"`{f}`" not in listed}
    assert unlisted == set()
    named = set(re.findall(r"`(\w+)`", listed))
    assert named - {name for _, name in over} == set(), "no longer over: take the line out"


def test_a_function_of_more_than_six_parameters_is_in_the_record() -> None:
    listed = RECORD.partition("More than six parameters")[2]
    over = {(name, f.name) for name, f in functions() if len(parameters(f)) > PARAMETERS}
    assert {(n, f) for n, f in over if f"`{n}`: `{f}`" not in listed} == set()
    named = set(re.findall(r"`(\w+)`", listed))
    assert named - {name for _, name in over} == set(), "no longer over: take the line out"


def test_whoever_stores_or_reads_for_a_tenant_takes_it_first() -> None:
    late = [
        f"{name}:{cls.name}.{method.name}"
        for name, path in FILES.items()
        if not name.startswith(("gateway/", "cli/"))
        for cls in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(cls, ast.ClassDef)
        for method in cls.body
        if isinstance(method, ast.AsyncFunctionDef) and not method.name.startswith("_")
        if "tenant_id" in parameters(method) and parameters(method)[0] != "tenant_id"
    ]
    assert late == []
