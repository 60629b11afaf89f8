"""The guided tour runs top to bottom, and is stored as it ran: with outputs, without faults."""

import re
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))

from run import TOUR, executed  # noqa: E402 - the folder is no package

MACHINE = re.compile(r"/(?:tmp|home|root|work|Users|private|var)/|127\.0\.0\.1:\d|cc_live_\w{6}")
SILENT = 3
"""Cells that only bind names."""


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(notebook: NotebookNode) -> str:
    return "\n".join(str(output) for cell in code(notebook) for output in cell.outputs)


def test_the_tour_runs_top_to_bottom_without_an_error() -> None:
    notebook = executed()  # raises for a cell that errs
    kinds = {output.output_type for cell in code(notebook) for output in cell.outputs}
    assert "error" not in kinds
    assert "stderr" not in {o.get("name") for cell in code(notebook) for o in cell.outputs}
    assert MACHINE.findall(said(notebook)) == []


def test_the_stored_tour_has_its_outputs_and_names_no_machine() -> None:
    stored = nbformat.read(TOUR, as_version=4)
    cells = code(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(not cell.outputs for cell in cells) <= SILENT
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 5
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    assert MACHINE.findall(said(stored)) == []


def test_prose_stands_before_every_cell() -> None:
    kinds = [cell.cell_type for cell in nbformat.read(TOUR, as_version=4).cells]
    assert all(before == "markdown" for before, kind in pairwise(kinds) if kind == "code")
