"""How commands run inside the service, and how they show what they found: a table or JSON."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from compliance_copilot.core.acting import Actor, acting

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant's id.")]
TenantArgument = Annotated[str, typer.Argument(help="The tenant's id, e.g. acme_corp.")]
T = TypeVar("T")
_PIPE_COLUMNS = 200  # a pipe has no width of its own; 80 would cut ids in two
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


def with_service(work: "Callable[[Service], Awaitable[T]]", *, examples: bool = True) -> T:
    """Run one piece of work inside the service; it may run beside a serving one.

    `examples=False`: an empty database stays without the example tenants.
    """
    from compliance_copilot.settings import load_settings
    from compliance_copilot.wiring import open_service

    settings = load_settings() if examples else load_settings(load_examples=False)

    async def run() -> T:
        async with open_service(settings) as service:
            with acting(Actor("cli")):
                return await work(service)

    return asyncio.run(run())


def in_utc(instant: datetime | None) -> datetime | None:
    """Return an option's instant; one without a zone is meant in UTC."""
    return instant if instant is None or instant.tzinfo else instant.replace(tzinfo=UTC)


def show(records: Sequence[Any], *, as_json: bool, name: str, columns: Sequence[str]) -> None:
    """Print records as a table of these columns, or whole as JSON: `{name: [...]}`."""
    if as_json:
        show_json({name: [_mapping(record) for record in records]})
        return
    table = Table(*columns)
    for record in records:
        fields = _mapping(record)
        table.add_row(*(_cell(fields.get(column)) for column in columns))
    console.print(table)


def show_one(record: Any, *, as_json: bool) -> None:
    """Print one record: a line per field, or JSON."""
    if as_json:
        show_json(record)
        return
    table = Table(show_header=False, box=None)
    for field, value in _mapping(record).items():
        table.add_row(f"[bold]{field}[/bold]", _cell(value))
    console.print(table)


def show_value(name: str, value: str, *, as_json: bool) -> None:
    """Print one value, bare or as JSON `{name: value}`: a script can take either."""
    if as_json:
        show_json({name: value})
    else:
        typer.echo(value)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode())
    sys.stdout.write("\n")


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
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "\n".join(f"{name} = {_cell(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, float):
        return f"{value:.6g}"
    return escape(str(value))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, set | frozenset) else str(value)
