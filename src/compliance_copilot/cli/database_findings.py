"""What `doctor` finds in the database: schema, role, isolation, durability, room, clock."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from compliance_copilot.cli.findings import Finding, failed, passed, warned
from compliance_copilot.core.clock import utc_now
from compliance_copilot.core.errors import CopilotError, SetupError

if TYPE_CHECKING:
    from compliance_copilot.settings import Settings

_MOST_SKEW_SECONDS = 5.0
_SPARE_CONNECTIONS = 5  # superuser slots, migrations, backups
_FACTS = """
    SELECT current_setting('server_version') AS server, current_user AS role,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS vector,
           current_setting('fsync') AS fsync,
           current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('max_connections')::int AS max_connections,
           clock_timestamp() AS now,
           (SELECT array_agg(DISTINCT c.relname::text) FROM pg_class c
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
              AND NOT (c.relrowsecurity AND c.relforcerowsecurity)) AS unprotected
"""


async def look_at_database(settings: "Settings") -> list[Finding]:
    """Open the database as the service would, without changing it, and look."""
    from compliance_copilot.storage import migrations
    from compliance_copilot.wiring import Addresses, open_server

    where = "DATABASE_URL" if settings.database_url else "embedded PostgreSQL"

    async def look(addresses: Addresses) -> list[Finding]:
        owner = addresses.owner if settings.database_url is None else None
        present, head = await migrations.present(owner or addresses.serving), migrations.head()
        lacking = await migrations.lacks_vector(addresses.owner or addresses.serving)
        if present is None and lacking:
            fix = "Run CREATE EXTENSION vector there as a superuser, then `migrate`."
            return [failed("pgvector", f"{where} has none, and this role may not add it", fix)]
        if present is None:
            fix = "Run `compliance-copilot migrate` (`serve` does it too)."
            return [warned("schema", f"{where} has none yet", fix)]
        found = passed("schema", present)
        if present != head:
            fix = "Run `compliance-copilot migrate` as the owner (DATABASE_OWNER_URL)."
            found = failed("schema", f"{present}; this code needs {head}", fix)
        return [found, *_judged(await _facts(addresses.serving), settings)]

    try:
        async with open_server(settings) as addresses:
            return [passed("database", f"{where} answers"), *await look(addresses)]
    except SetupError as error:
        return [failed("database", error.detail, "Correct it as the line says.")]
    except CopilotError as error:
        return [failed("database", error.detail or error.code, "See the server's own log.")]


async def _facts(serving: str) -> dict[str, Any]:
    from compliance_copilot.storage.database import open_database

    async with open_database(serving, max_connections=1) as database:
        return dict((await database.call_platform(_FACTS))[0])


def _judged(facts: dict[str, Any], settings: "Settings") -> Iterator[Finding]:
    yield passed("server", f"PostgreSQL {facts['server']}, pgvector {facts['vector']}")
    yield passed("role", f"{facts['role']} is bound by row-level security")
    open_tables = facts["unprotected"] or []
    if open_tables:
        fix = "Enable and force row-level security there; `migrate` does it for its own tables."
        yield failed("isolation", f"not forced on {', '.join(open_tables)}", fix)
    else:
        yield passed("isolation", "row-level security is forced on every tenant table")
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        yield _durability(name, facts[name])
    yield _room(facts["max_connections"], settings)
    yield _clock(facts["now"])


def _durability(name: str, value: str) -> Finding:
    if value == "off":
        fix = f"Set {name} = on: a crash could lose ledger rows of calls that were paid for."
        return failed("durability", f"{name} is off", fix)
    return passed("durability", f"{name} is {value}")


def _room(most: int, settings: "Settings") -> Finding:
    wanted = settings.workers * settings.database_pool_size
    detail = f"{settings.workers} x {settings.database_pool_size} of {most}"
    if wanted + _SPARE_CONNECTIONS > most:
        fix = "Lower WORKERS or DATABASE_POOL_SIZE, or raise the server's max_connections."
        return failed("connections", detail, fix)
    return passed("connections", detail)


def _clock(there: datetime) -> Finding:
    skew = abs((utc_now() - there).total_seconds())
    detail = f"{skew:.1f} s between this machine and the database"
    if skew > _MOST_SKEW_SECONDS:
        return failed("clock", detail, "Synchronise both clocks (NTP): leases depend on them.")
    return passed("clock", detail)
