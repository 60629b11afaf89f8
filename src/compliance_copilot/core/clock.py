"""Time: aware instants, deadlines and time-ordered ids."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID


def utc_now() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)


def new_id() -> UUID:
    """Return a UUIDv7: 48 bits of milliseconds, then random bits (RFC 9562, section 5.7)."""
    return new_ids(1)[0]


def new_ids(count: int) -> list[UUID]:
    """Return many ids of one instant; the operating system is asked once for them all."""
    milliseconds = time.time_ns() // 1_000_000
    random = os.urandom(10 * count)
    return [_id_of(milliseconds, random[at : at + 10]) for at in range(0, len(random), 10)]


def _id_of(milliseconds: int, random: bytes) -> UUID:
    value = (milliseconds << 80) | int.from_bytes(random, "big")
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock by which a piece of work has to end."""

    at_seconds: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline that lies `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def remaining_seconds(self) -> float:
        """Return what is left, never less than 0."""
        return max(0.0, self.at_seconds - time.monotonic())

    def share(self, part: float) -> "Deadline":
        """Return the deadline after this part (0..1) of the time that is left."""
        return Deadline.after(self.remaining_seconds() * part)

    @property
    def passed(self) -> bool:
        """Tell whether nothing is left."""
        return self.remaining_seconds() == 0.0
