"""Who acts at this moment: what the audit log writes down. It decides nothing.

Bound at the door (a request, a command, a job); what is not bound is the library's own call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """`key:<id>`, `platform`, `cli`, `bootstrap`, `job:<id>`, `library`; its name at the time."""

    id: str
    name: str = ""
    request_id: str = ""


LIBRARY = Actor("library")
_present: ContextVar[Actor] = ContextVar("actor", default=LIBRARY)


def current_actor() -> Actor:
    """Return who acts."""
    return _present.get()


def act_as(actor: Actor) -> None:
    """Name the actor from here to the end of the enclosing `acting`."""
    _present.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Name the actor for a block, and the one before it afterwards."""
    token = _present.set(actor)
    try:
        yield
    finally:
        _present.reset(token)
