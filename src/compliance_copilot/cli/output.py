"""How commands show what they found: a table for people, JSON for programs."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from compliance_copilot.orchestrator import Service
from compliance_copilot.wiring import open_service

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
T = TypeVar("T")
console = Console(soft_wrap=True)


def with_service(work: Callable[[Service], Awaitable[T]]) -> T:
    """Run one piece of work inside the service; it may run beside a serving one."""

    async def run() -> T:
        async with open_service() as service:
            return await work(service)

    return asyncio.run(run())


def show(value: Any, *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print records as a table of these columns, or anything as JSON."""
    if as_json or not columns:
        sys.stdout.write(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode())
        sys.stdout.write("\n")
        return
    table = Table(*columns)
    for record in value:
        fields = _mapping(record)
        table.add_row(*(_cell(fields.get(column)) for column in columns))
    console.print(table)


def pairs(values: Sequence[str]) -> dict[str, Any]:
    """Return `name=value` arguments as a mapping; values are JSON where they can be."""
    found: dict[str, Any] = {}
    for value in values:
        name, sign, text = value.partition("=")
        if not sign:
            raise typer.BadParameter(f"{value!r} is not name=value")
        try:
            found[name] = orjson.loads(text)
        except orjson.JSONDecodeError:
            found[name] = text
    return found


def _mapping(record: Any) -> Mapping[str, Any]:
    if is_dataclass(record) and not isinstance(record, type):
        return asdict(record)
    return dict(record)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, set | frozenset) else str(value)
