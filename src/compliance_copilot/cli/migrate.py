"""migrate: the schema, brought up to date as the owner."""

import asyncio

import typer

from compliance_copilot.cli.output import Json, show_one

_HELP = """Bring the database schema up to date; safe to repeat.

Uses DATABASE_OWNER_URL, or the embedded server when DATABASE_URL is not set. `serve` does the same
when it may.

Example: DATABASE_OWNER_URL=postgresql://owner:...@db/copilot compliance-copilot migrate
"""


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(help=_HELP)(migrate)


def migrate(as_json: Json = False) -> None:
    """Apply what is missing, and tell from where to where the schema came."""
    before, now = asyncio.run(_migrate())
    if as_json:
        show_one({"before": before, "schema": now}, as_json=True)
    elif before == now:
        typer.echo(f"The schema is up to date ({now}).")
    else:
        typer.echo(f"The schema was {before or 'missing'} and is {now} now.")


async def _migrate() -> tuple[str | None, str]:
    from compliance_copilot.billing.prices import load_price_book
    from compliance_copilot.settings import PROJECT_ROOT, load_settings
    from compliance_copilot.storage import migrations
    from compliance_copilot.wiring import bring_up_to_date, open_server

    prices = load_price_book(PROJECT_ROOT / "configs" / "prices.toml")
    async with open_server(load_settings()) as addresses:
        before = await migrations.present(addresses.owner or addresses.serving)
        await bring_up_to_date(addresses, prices)
        return before, migrations.head()
