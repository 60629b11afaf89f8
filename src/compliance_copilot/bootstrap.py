"""The first start: the platform key and, in development, the example tenants and documents.

Done once for a database, whatever the number of workers: each step holds an advisory lock.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from compliance_copilot.core.acting import Actor, acting
from compliance_copilot.core.errors import Conflict, InvalidRequest, SetupError, UnknownTenant
from compliance_copilot.core.vocabulary import NewDocument, Operation, TenantId
from compliance_copilot.orchestrator import Service
from compliance_copilot.settings import PROJECT_ROOT, Settings
from compliance_copilot.storage.database import Database
from compliance_copilot.tenancy.cascade import CONFIG_FIELDS, checked_limits, checked_patch
from compliance_copilot.tenancy.keys import FIRST_KEY_SCOPES
from compliance_copilot.tenancy.tenants import (
    NewTenant,
    Tenant,
    TenantChange,
    checked_tenant_id,
)

SET_BY = "bootstrap"
_ABSENT = object()
_UNSET: Mapping[str, Any] = dict.fromkeys(CONFIG_FIELDS)


class TenantEntry(BaseModel):
    """One tenant of a bootstrap file."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    name: str = Field(min_length=1, max_length=200)
    config: dict[str, Any] = {}
    limits: dict[str, Any] = {}


class BootstrapFile(BaseModel):
    """The schema of `configs/example.json`."""

    model_config = ConfigDict(extra="forbid")

    tenants: list[TenantEntry]


def load_tenants(path: Path) -> list[NewTenant]:
    """Return the tenants of a file. Raises SetupError with one line."""
    try:
        entries = BootstrapFile.model_validate_json(path.read_bytes()).tenants
    except (OSError, ValidationError) as error:
        raise SetupError(f"{path}: {' '.join(str(error).split())[:300]}") from error
    seen: set[str] = set()
    for entry in entries:
        _refuse_faulty(path, entry, seen)
        seen.add(entry.tenant_id)
    return [NewTenant(e.tenant_id, e.name, e.config, e.limits) for e in entries]


def _refuse_faulty(path: Path, entry: TenantEntry, seen: set[str]) -> None:
    """Find what is wrong in any tenant before the first one is written."""
    where = f"{path}: tenant {entry.tenant_id!r}"
    if entry.tenant_id in seen:
        raise SetupError(f"{where} is there twice; keep one.")
    try:
        checked_tenant_id(entry.tenant_id)
        checked_patch(entry.config)
        checked_limits(entry.limits)
    except InvalidRequest as error:
        raise SetupError(f"{where}: {error.detail}") from error


async def apply_tenants(service: Service, tenants: list[NewTenant]) -> dict[TenantId, str | None]:
    """Create or update tenants, idempotently; return the first key's secret of the new ones."""
    with acting(Actor(SET_BY)):
        return await _applied(service, tenants)


async def _applied(service: Service, tenants: list[NewTenant]) -> dict[TenantId, str | None]:
    secrets: dict[TenantId, str | None] = {}
    for new in tenants:
        try:
            tenant, key = await service.tenants.create(new, set_by=SET_BY)
            secrets[tenant.tenant_id] = key.secret if key else None
        except Conflict:
            tenant_id = TenantId(new.tenant_id)
            await _update(service, await _present(service, tenant_id), new)
            secrets[tenant_id] = None
    return secrets


async def _present(service: Service, tenant_id: TenantId) -> Tenant:
    try:
        return await service.tenants.require(tenant_id)
    except UnknownTenant:
        raise Conflict(
            f"Tenant {tenant_id!r} was deleted, and its id is never used again; give it another"
            " id in the file, or take it out.",
            field="tenant_id",
        ) from None


async def _update(service: Service, present: Tenant, new: NewTenant) -> None:
    """Write what differs and nothing else: who set a value and when stays true."""
    # None takes a value away, which is no change where there is none; a limit of None is lifted.
    config = _differing(checked_patch(new.config), {**_UNSET, **present.config})
    limits = _differing(checked_limits(new.limits), present.limits)
    if limits or new.name != present.name:
        await service.tenants.update(present.tenant_id, TenantChange(new.name, limits=limits))
    if config:
        await service.config.update_tenant_config(present.tenant_id, set_by=SET_BY, **config)


def _differing(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in wanted.items() if present.get(n, _ABSENT) != v}


async def first_start(service: Service, database: Database, settings: Settings) -> None:
    """Make what a new database lacks, and tell once where it is."""
    platform_key = await service.keys.ensure_platform_key()
    if platform_key:
        _tell(f"Platform key (shown once; set ADMIN_API_KEY to choose your own): {platform_key}")
    if settings.load_examples:
        async with database.platform_transaction() as connection:
            # Held until the examples are in; other workers wait here and then find them.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('cc.examples'))")
            done = await connection.fetchval("SELECT bootstrapped_at FROM system_state")
            if done is None:
                await _load_examples(service, settings)
            if service.skipped(Operation.INGEST) is None:  # else the start with the key does it
                await connection.execute(
                    "UPDATE system_state SET bootstrapped_at = coalesce(bootstrapped_at, now())"
                )


async def _load_examples(service: Service, settings: Settings) -> None:
    tenants = load_tenants(PROJECT_ROOT / "configs" / "example.json")
    examples = {tenant.tenant_id for tenant in tenants}
    if set(await service.tenants.list_ids(limit=len(examples) + 1)) - examples:
        return  # somebody's own tenants: nothing is made up beside them
    secrets = await apply_tenants(service, tenants)
    data = orjson.loads((PROJECT_ROOT / "example_data.json").read_bytes())
    for tenant_id, secret in secrets.items():
        documents = [_document(entry) for entry in data["sample_documents"].get(tenant_id, [])]
        if service.skipped(Operation.INGEST) is None:
            await service.copilot.ingest(tenant_id, documents)
        if secret is None:  # a first start that was cut off, or that could not ingest
            if key_file(key_folder(settings.data_dir), tenant_id).exists():
                continue
            scopes = FIRST_KEY_SCOPES
            key = await service.keys.create(tenant_id, name="examples", scopes=scopes)
            secret = key.secret
        write_key(key_folder(settings.data_dir), tenant_id, secret)


def _document(entry: Mapping[str, Any]) -> NewDocument:
    return NewDocument(
        text=entry["text"],
        document_id=entry["document_id"],
        title=entry["title"],
        metadata=entry["metadata"],
    )


def key_folder(data_dir: Path) -> Path:
    """Return where the example tenants' keys lie."""
    return data_dir / "keys"


def key_file(folder: Path, tenant_id: str) -> Path:
    """Return where a tenant's key lies in the folder."""
    return folder / f"{tenant_id}.key"


def write_key(folder: Path, tenant_id: str, secret: str) -> Path:
    """Keep a key in a file that only its owner can read."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = key_file(folder, tenant_id)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secret + "\n")
    return path


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
