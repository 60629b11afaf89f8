"""Which chunks belong to others: what stands around them, and what they refer to."""

from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from compliance_copilot.core.clock import Deadline
from compliance_copilot.core.errors import RetrievalUnavailable, StoreUnavailable
from compliance_copilot.core.vocabulary import TenantId
from compliance_copilot.rag.references import Reference
from compliance_copilot.storage.database import Database, Row

_AROUND = "SELECT * FROM chunks_around($1, $2, $3)"
_NUMBERED = "SELECT * FROM chunks_numbered($1, $2, $3, $4)"
_MOST_OF_A_NUMBER = 3


class LinkedChunks:
    """Follows the links between the chunks of one tenant; the ids may be of any version."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def around(
        self, tenant_id: TenantId, chunk_ids: Sequence[UUID], *, reach: int, deadline: Deadline
    ) -> list[UUID]:
        """Return the chunks at most `reach` before or after the given ones, these left out.

        Raises RetrievalUnavailable or DeadlineExceeded.
        """
        rows = await self._ask(tenant_id, _AROUND, list(chunk_ids), reach, deadline=deadline)
        return [row["id"] for row in rows]

    async def referred(
        self,
        tenant_id: TenantId,
        references: Sequence[Reference],
        documents: Sequence[str],
        *,
        deadline: Deadline,
    ) -> list[UUID]:
        """Return the chunks that references point to, those in `documents` before others.

        Raises RetrievalUnavailable or DeadlineExceeded.
        """
        numbers = [reference.number for reference in references]
        rows = await self._ask(
            tenant_id, _NUMBERED, numbers, list(documents), _MOST_OF_A_NUMBER, deadline=deadline
        )
        return [row["id"] for row in rows]

    async def _ask(
        self, tenant_id: TenantId, statement: LiteralString, *arguments: object, deadline: Deadline
    ) -> list[Row]:
        try:
            return await self._database.call(tenant_id, statement, *arguments, deadline=deadline)
        except StoreUnavailable as error:
            raise RetrievalUnavailable(
                "The documents cannot be searched now.", **error.facts
            ) from error
