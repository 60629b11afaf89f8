"""Whether a commit of this server survives a power cut: looked at once, at start."""

import logging

from compliance_copilot.core.errors import SetupError
from compliance_copilot.storage.database import Database

LOG = logging.getLogger(__name__)
_SETTINGS = """
    SELECT name, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name
"""


async def weak_settings(database: Database) -> list[str]:
    """Return the settings under which a committed row can be lost, e.g. `fsync=off`."""
    rows = await database.call_platform(_SETTINGS)
    return [f"{row['name']}={row['setting']}" for row in rows if row["setting"] == "off"]


async def check_durability(database: Database, *, required: bool) -> None:
    """Warn when a committed ledger row could be lost; raise SetupError where that is `required`."""
    weak = await weak_settings(database)
    if not weak:
        return
    words = (
        f"DATABASE_URL: the server runs with {', '.join(weak)}, so a power cut loses ledger rows; "
        "set them to on."
    )
    if required:
        raise SetupError(words)
    LOG.warning("%s", words)
