"""The command line: the same verbs and words as the API. Heavy imports stay inside commands."""

import sys
from typing import Annotated

import typer

from compliance_copilot.cli import (
    ask,
    audit,
    backup,
    bootstrap,
    config,
    doctor,
    ingest,
    keys,
    migrate,
    reindex,
    secrets,
    serve,
    tenants,
    usage,
    vectors,
    worker,
)
from compliance_copilot.core.errors import CopilotError

app = typer.Typer(
    name="compliance-copilot",
    help="Multi-tenant answers with checked quotes: run the service and look after it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for part in (serve, worker, migrate, bootstrap, doctor, ingest, ask, backup, reindex):
    part.add_to(app)
app.add_typer(tenants.app, name="tenants", help="Create, list, change and end tenants.")
app.add_typer(keys.app, name="keys", help="Make, list, rotate and revoke a tenant's keys.")
app.add_typer(secrets.app, name="secrets", help="Tend what lies encrypted under SECRETS_KEY.")
app.add_typer(config.app, name="config", help="Show and set what holds for a tenant's questions.")
app.add_typer(vectors.app, name="vectors", help="Tend the index of a hosted vector store.")
app.add_typer(usage.app, name="usage", help="Read a tenant's ledger: sums, and row by row.")
app.add_typer(audit.app, name="audit", help="Read and verify the log of changes.")


def _show_version(wanted: bool) -> None:
    if wanted:
        from compliance_copilot import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """Run the command line; what a person can mend is told in one line, without a traceback."""
    try:
        app()
    except CopilotError as error:
        sys.stderr.write(f"{error.detail or error.code}\n")
        sys.exit(1)
