"""What a tenant may have in stock: documents, and bytes of text in all their versions."""

from dataclasses import dataclass

from compliance_copilot.core.errors import LimitReached
from compliance_copilot.rag.statistics import Corpus

_WAIT_SECONDS = 3600  # nothing comes free by itself: somebody has to erase, or raise the limit


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most that may be stored; None: no such limit."""

    max_documents: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Growth:
    """What a call would add: new documents, bytes of text of new versions."""

    documents: int = 0
    text_bytes: int = 0


def check_quotas(corpus: Corpus, quotas: Quotas, growth: Growth) -> None:
    """Raise LimitReached when the corpus may not grow by that much."""
    for limit, quota, stored, more in (
        ("max_documents", quotas.max_documents, corpus.documents, growth.documents),
        ("max_bytes", quotas.max_bytes, corpus.text_bytes, growth.text_bytes),
    ):
        if quota is not None and more and stored + more > quota:
            raise LimitReached(
                f"The limit {limit} ({quota}) does not allow {more} more.",
                limit=limit,
                quota=quota,
                remaining=max(0, quota - stored),
                retry_after_seconds=_WAIT_SECONDS,
            )
