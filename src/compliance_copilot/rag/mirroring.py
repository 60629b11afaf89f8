"""A folder or a bucket held against what was read from it: what is wanted, what is gone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.storage.database import Database

_WANTED = """
    SELECT u.path FROM unnest($2::text[], $3::bytea[]) AS u (path, hash)
    WHERE NOT EXISTS (SELECT FROM documents d WHERE d.tenant_id = $1
                      AND d.source_path = u.path AND d.source_hash = u.hash)
    ORDER BY u.path
"""
_GONE = """
    SELECT document_id, source_path AS path FROM documents
    WHERE tenant_id = $1 AND starts_with(source_path, $2) AND NOT source_path = ANY ($3)
    ORDER BY source_path, document_id
"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is there now: SHA-256 by path. Paths that do not start with `prefix` are not its."""

    files: Mapping[str, bytes]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a mirror has still to do: paths to send, documents (id, path) whose file is gone."""

    wanted: Sequence[str]
    unchanged: int
    gone: Sequence[tuple[str, str]]


async def compare(database: Database, tenant_id: TenantId, manifest: Manifest) -> Difference:
    """Hold a manifest against the documents that were read from such paths."""
    paths, hashes = list(manifest.files), list(manifest.files.values())
    async with database.transaction(tenant_id) as connection:
        wanted = await connection.fetch(_WANTED, tenant_id, paths, hashes)
        gone = await connection.fetch(_GONE, tenant_id, manifest.prefix, paths)
    return Difference(
        [row["path"] for row in wanted],
        len(paths) - len(wanted),
        [(row["document_id"], row["path"]) for row in gone],
    )
