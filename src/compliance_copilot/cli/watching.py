"""ingest --watch: a folder is kept in step until Ctrl-C or SIGTERM."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from compliance_copilot.core.errors import CopilotError, NotFound
from compliance_copilot.core.vocabulary import TenantId

if TYPE_CHECKING:
    from compliance_copilot.orchestrator import Service

_STORED = frozenset({"created", "updated", "unchanged"})


@dataclass(slots=True)
class Outcome:
    """What became of one file."""

    path: str
    status: str = "waiting"
    document_id: str | None = None
    version: int | None = None
    chunks: int | None = None
    reason: str | None = None
    duplicate_of: str | None = None


class Watched(Protocol):
    """Whose files these are, where, and what became of them at the first walk."""

    tenant: TenantId
    paths: Sequence[Path]
    outcomes: list[Outcome]


Walk = Callable[[], Awaitable[list[Outcome]]]
Tell = Callable[[list[Outcome]], None]


async def follow(service: "Service", watched: Watched, walk: Walk, tell: Tell) -> None:
    """Walk the paths whenever something changes below them, and erase what is gone since.

    The first time without a change: what changed before the watch began is not missed.
    """
    from watchfiles import awatch

    before, behind, paths = list(watched.outcomes), True, watched.paths
    with _stopping() as stop:
        async for changes in awatch(*paths, stop_event=stop, yield_on_timeout=True):
            if not changes and not behind:
                continue
            try:
                outcomes = await walk()
                gone = await _forget(service, watched.tenant, _gone(before, outcomes, paths))
            except CopilotError as error:  # what was not done is tried again soon
                typer.echo(f"put off: {error.detail or error.code}", err=True)
                behind = True
                continue
            before, behind = outcomes, False
            told = [o for o in outcomes if o.status not in {"unchanged", "passed by"}] + gone
            if told:
                tell(told)


def _gone(
    before: list[Outcome], now: list[Outcome], paths: Sequence[Path]
) -> list[tuple[str, str]]:
    """Return (path, id) of documents whose file is gone: none while a whole path is, because that
    may be a disk that is not mounted; none out of an archive that cannot be read now.
    """
    if not all(path.exists() for path in paths):
        return []
    there = {outcome.document_id for outcome in now}
    broken = tuple(f"{o.document_id}:" for o in now if o.status == "failed")
    return [
        (outcome.path, outcome.document_id)
        for outcome in before
        if outcome.status in _STORED and outcome.document_id is not None
        if outcome.document_id not in there and not outcome.document_id.startswith(broken)
    ]


async def _forget(
    service: "Service", tenant: TenantId, gone: list[tuple[str, str]]
) -> list[Outcome]:
    outcomes = []
    for path, document_id in gone:
        try:
            await service.erasing.document(tenant, document_id, requested_by="cli")
        except NotFound:
            continue
        outcomes.append(Outcome(path, "erased", document_id))
    return outcomes


@contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """Give an event that Ctrl-C and SIGTERM set: what is under way is finished."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(n, lambda *_: loop.call_soon_threadsafe(stop.set)) for n in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
