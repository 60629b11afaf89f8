"""Our rows against a provider's own usage export: every difference by name, no row changed."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance_copilot.billing.ledger import UsageEvent
from compliance_copilot.core.errors import InvalidRequest

_IDS = ("response_id", "provider_response_id", "id", "request_id")
_INPUT = ("input_tokens", "prompt_tokens")
_OUTPUT = ("output_tokens", "completion_tokens")


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call as the provider counted it."""

    response_id: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement. `kind`: `not_in_ledger`, `not_at_provider`, `tokens` or `twice`."""

    kind: str
    response_id: str | None
    ours: tuple[int, int] | None
    theirs: tuple[int, int] | None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What agrees, what does not, and our rows that the provider may still explain."""

    agreeing: int
    differences: tuple[Difference, ...]
    unknown: int
    """Interrupted rows: their call has no response id here; the provider's may be among theirs."""


def reconciled(events: Iterable[UsageEvent], calls: Iterable[ProviderCall]) -> Reconciliation:
    """Compare settled rows of a provider with its calls, by the provider's response id."""
    theirs: dict[str, ProviderCall] = {}
    differences: list[Difference] = []
    for call in calls:
        if call.response_id in theirs:
            differences.append(Difference("twice", call.response_id, None, _of(call)))
        theirs[call.response_id] = call
    agreeing = unknown = 0
    for event in events:
        if event.state == "interrupted":
            unknown += 1
            continue
        if event.state != "settled" or event.provider in (None, "local", "cache"):
            continue
        match = theirs.pop(event.provider_response_id or "", None)
        if match is not None and _of(match) == _of(event):
            agreeing += 1
            continue
        kind = "not_at_provider" if match is None else "tokens"
        theirs_of = None if match is None else _of(match)
        differences.append(
            Difference(
                kind, event.provider_response_id, _of(event), theirs_of, str(event.request_id)
            )
        )
    left = [Difference("not_in_ledger", c.response_id, None, _of(c)) for c in theirs.values()]
    return Reconciliation(agreeing, (*differences, *left), unknown)


def _of(counted: ProviderCall | UsageEvent) -> tuple[int, int]:
    return counted.input_tokens, counted.output_tokens


def load_provider_export(path: Path) -> list[ProviderCall]:
    """Return the calls of an export: CSV with a header, a JSON list, or JSON lines.

    Raises InvalidRequest naming the line that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"{path}: cannot be read ({error}).", field="provider_export"
        ) from None
    try:
        entries = _entries(text)
    except ValueError as error:
        raise InvalidRequest(f"{path}: not JSON ({error}).", field="provider_export") from None
    return [_call(path, number, entry) for number, entry in enumerate(entries, start=1)]


def _entries(text: str) -> list[Mapping[str, Any]]:
    first = text.lstrip()[:1]
    if first == "[":
        return list(json.loads(text))
    if first == "{":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(csv.DictReader(text.splitlines()))


def _call(path: Path, number: int, entry: Mapping[str, Any]) -> ProviderCall:
    usage = entry.get("usage")
    counted = {**entry, **usage} if isinstance(usage, Mapping) else entry
    found = [next((counted[n] for n in names if counted.get(n) is not None), None)
             for names in (_IDS, _INPUT, _OUTPUT)]  # fmt: skip
    try:
        return ProviderCall(str(found[0] or ""), int(found[1] or 0), int(found[2] or 0))
    except (TypeError, ValueError):
        raise InvalidRequest(
            f"{path}: entry {number} has no whole numbers of tokens.", field="provider_export"
        ) from None
