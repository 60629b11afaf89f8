"""Spreadsheets and CSV as Markdown tables, cut so that each piece names its cells.

A piece repeats the sheet's first row, so that a row is never far from what its columns mean.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from compliance_copilot.core.files import Extracted, Section, Unreadable
from compliance_copilot.rag.extraction import archives, kinds
from compliance_copilot.rag.extraction.bounds import Bounds, too_much_text
from compliance_copilot.rag.visible import clean_text

_PIECE_CHARACTERS = 1_000
_MOST_COLUMNS = 500
_HEAD_LINES = 2
Row = tuple[int, list[str]]
"""A row's number and its cells from the first column on."""


def read_spreadsheet(path: Path, bounds: Bounds) -> Extracted:
    """Return the cells of every sheet; formulas by the value last computed. Raises Unreadable."""
    from openpyxl import load_workbook

    archives.names_of(path, bounds)
    try:
        book = load_workbook(
            BytesIO(path.read_bytes()), read_only=True, data_only=True, keep_links=False
        )
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable("damaged", "The spreadsheet cannot be read; it is damaged.") from error
    writer = _Writer(bounds)
    for sheet in book.worksheets:
        sheet.reset_dimensions()  # what the file claims about its size is not believed
        rows = sheet.iter_rows(values_only=True, max_col=_MOST_COLUMNS)
        for block in _blocks(writer.counted(rows)):
            writer.add(sheet.title, block)
    return writer.extracted(kinds.XLSX)


def read_csv(path: Path, bounds: Bounds) -> Extracted:
    """Return the rows of a CSV file. Raises Unreadable."""
    text = kinds.decoded(path.read_bytes())
    delimiter = kinds.delimiter_of(text[:8192]) or ","
    writer = _Writer(bounds)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        for block in _blocks(writer.counted(reader)):
            writer.add(None, block)
    except csv.Error as error:
        raise Unreadable("damaged", "The table cannot be read.") from error
    return writer.extracted(kinds.CSV)


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Cut a sheet at its empty rows: what lies between them is a table of its own."""
    block: list[Row] = []
    for number, cells in rows:
        if any(cells):
            block.append((number, cells))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _shown(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ", timespec="minutes").removesuffix(" 00:00")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return " ".join(clean_text(str(cell)).split()).replace("|", "\\|")


class _Writer:
    """Collects pieces of tables, and where each comes from."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._parts: list[str] = []
        self._sections: list[Section] = []
        self._characters = 0
        self._cells = 0

    def counted(self, rows: Iterable[Sequence[Any]]) -> Iterator[Row]:
        """Number the rows and write out their cells. Raises Unreadable for too many."""
        for number, row in enumerate(rows, start=1):
            self._cells += sum(cell is not None for cell in row)
            if self._cells > self._bounds.cells:
                raise Unreadable("too_large", f"It has more than {self._bounds.cells} cells.")
            yield number, [_shown(cell) for cell in row]

    def add(self, sheet: str | None, block: list[Row]) -> None:
        first = min(_first(cells) for _, cells in block)
        last = max(_last(cells) for _, cells in block)
        head = _line(block[0][1][first:last])
        rule = "|" + " --- |" * (last - first)
        start, body = block[0][0], [head, rule]
        for number, cells in block[1:]:
            if sum(map(len, body)) > _PIECE_CHARACTERS and len(body) > _HEAD_LINES:
                self._close(sheet, (first, last, start, number - 1), body)
                start, body = number, [head, rule]
            body.append(_line(cells[first:last]))
        self._close(sheet, (first, last, start, block[-1][0]), body)

    def _close(self, sheet: str | None, place: tuple[int, int, int, int], body: list[str]) -> None:
        first, last, top, bottom = place
        cells = f"{_letters(first)}{top}:{_letters(last - 1)}{bottom}"
        headings = (f"rows {top}-{bottom}",) if sheet is None else (sheet, f"{sheet}!{cells}")
        self._sections.append(Section(self._characters, headings))
        piece = "\n".join(body) + "\n\n"
        self._parts.append(piece)
        self._characters += len(piece)
        if self._characters > self._bounds.text_characters:
            raise too_much_text(self._bounds)

    def extracted(self, media_type: str) -> Extracted:
        """Return everything that was added. Raises Unreadable when that is nothing."""
        if not self._parts:
            raise Unreadable("no_text", "There is no filled cell in it.")
        return Extracted("".join(self._parts).rstrip(), media_type, self._sections)


def _first(cells: Sequence[str]) -> int:
    return next((place for place, cell in enumerate(cells) if cell), len(cells))


def _last(cells: Sequence[str]) -> int:
    return next((place for place in range(len(cells), 0, -1) if cells[place - 1]), 0)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _letters(column: int) -> str:
    """Return a column's name: 0 is A, 26 is AA."""
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
