"""What a tenant may have in stock: documents, and bytes of text in all their versions."""

from dataclasses import dataclass

from compliance_copilot.core.errors import LimitReached
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.statistics import Corpus
from compliance_copilot.storage.database import Connection

_WAIT_SECONDS = 3600  # nothing comes free by itself: somebody has to erase, or raise the limit


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most that may be stored; None: no such limit."""

    max_documents: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """What is stored, or what a call would add: documents, bytes of text of all versions."""

    documents: int = 0
    text_bytes: int = 0


async def read_stock(connection: Connection, tenant_id: TenantId) -> Stock:
    """Return what a tenant has in stock now; nothing is locked."""
    row = await connection.fetchrow(
        "SELECT documents, text_bytes FROM corpora WHERE tenant_id = $1", tenant_id
    )
    return Stock() if row is None else Stock(row["documents"], row["text_bytes"])


def check_quotas(stored: Stock | Corpus, quotas: Quotas, growth: Stock) -> None:
    """Raise LimitReached when the stock may not grow by that much."""
    for limit, quota, there, more in (
        ("max_documents", quotas.max_documents, stored.documents, growth.documents),
        ("max_bytes", quotas.max_bytes, stored.text_bytes, growth.text_bytes),
    ):
        if quota is not None and more and there + more > quota:
            raise LimitReached(
                f"The limit {limit} ({quota}) does not allow {more} more.",
                limit=limit,
                quota=quota,
                remaining=max(0, quota - there),
                retry_after_seconds=_WAIT_SECONDS,
            )
