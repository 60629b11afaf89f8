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
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
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
