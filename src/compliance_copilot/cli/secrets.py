"""secrets: what lies encrypted under SECRETS_KEY."""

from secrets import token_urlsafe
from typing import TYPE_CHECKING

import typer

from compliance_copilot.cli.output import Json, show_one, show_value, with_service

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service

app = typer.Typer(no_args_is_help=True)
_PAGE = 500


@app.command()
def new(as_json: Json = False) -> None:
    """Print a fresh key for SECRETS_KEY; nothing is stored.

    Example: compliance-copilot secrets new
    """
    show_value("key", token_urlsafe(32), as_json=as_json)


@app.command()
def reseal(as_json: Json = False) -> None:
    """Bring every tenant's provider keys under the first of SECRETS_KEY; safe to repeat.

    Example: SECRETS_KEY="the-new-key,the-old-key" compliance-copilot secrets reseal
    """

    async def work(service: "Service") -> dict[str, int]:
        moved, after = 0, ""
        while ids := await service.tenants.list_ids(after=after, limit=_PAGE):
            for tenant_id in ids:
                moved += await service.provider_keys.reseal(tenant_id)
            after = ids[-1]
        return {"resealed": moved}

    show_one(with_service(work), as_json=as_json)
