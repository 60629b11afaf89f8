"""The command line: the same verbs and words as the API. Heavy imports stay inside commands."""

import sys

import typer

from compliance_copilot.cli import data, keys, operate, tenants
from compliance_copilot.core.errors import CopilotError

app = typer.Typer(
    name="compliance-copilot",
    help="Multi-tenant answers with checked quotes: run the service and look after it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
operate.add_to(app)
data.add_to(app)
app.add_typer(tenants.app, name="tenants", help="Create, list and change tenants.")
app.add_typer(keys.app, name="keys", help="Make, list, rotate and revoke a tenant's keys.")


def main() -> None:
    """Run the command line; what a person can mend is told in one line, without a traceback."""
    try:
        app()
    except CopilotError as error:
        sys.stderr.write(f"{error.detail or error.code}\n")
        sys.exit(1)
