"""What a check of `doctor` found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: `ok`, `warning` or `failed`, and what to do about it."""

    name: str
    status: str
    detail: str
    fix: str | None = None


def passed(name: str, detail: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(name, "ok", detail)


def warned(name: str, detail: str, fix: str) -> Finding:
    """Return a finding that can wait."""
    return Finding(name, "warning", detail, fix)


def failed(name: str, detail: str, fix: str) -> Finding:
    """Return a finding that keeps the service from doing what it promises."""
    return Finding(name, "failed", detail, fix)
