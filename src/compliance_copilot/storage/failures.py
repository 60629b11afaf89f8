"""What the driver raises when the server is away, in our words."""

from types import TracebackType

import asyncpg

from compliance_copilot.core.errors import (
    CopilotError,
    DeadlineExceeded,
    RetrievalUnavailable,
    StoreUnavailable,
)

UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the connection broke while a statement was being sent
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,  # no connection left, no memory, the disk is full
    asyncpg.ReadOnlySQLTransactionError,  # a standby: the primary has moved
    asyncpg.InvalidCatalogNameError,
)
"""The server is away, or cannot work."""

_OTHER_EMBEDDER = "CC001"  # raised by `require_embedder` in `3_retrieval.sql`
_RETRY_AFTER_SECONDS = 2


class _NamedFailures:
    """Turns what the driver raises when the server is away into our two errors."""

    def __enter__(self) -> None:
        """Nothing is kept: one context serves everybody."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        named = None if error is None else _named(error)
        if named is not None:
            raise named from error


def _named(error: BaseException) -> CopilotError | None:
    # First, because a TimeoutError is an OSError too.
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return DeadlineExceeded("The database took longer than this request has.")
    if isinstance(error, UNREACHABLE):
        return StoreUnavailable(
            "The database does not answer.", retry_after_seconds=_RETRY_AFTER_SECONDS
        )
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate == _OTHER_EMBEDDER:
        return RetrievalUnavailable(
            "These documents are being moved to another embedder or vector store.",
            reason="reindex",
            retry_after_seconds=60,
        )
    return None


NAMED_FAILURES = _NamedFailures()
