"""Finished spans as a tree of lines, for people. Must not enter: where the spans come from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SHOWN = 4
_HIDDEN = frozenset({"tenant_id", "request_id"})


@dataclass(frozen=True, slots=True)
class SpanLine:
    """What a tree needs of one span; times in nanoseconds, ids in any form."""

    name: str
    span_id: str
    parent_id: str | None
    began: int
    ended: int
    attributes: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False


def tree(spans: Iterable[SpanLine]) -> str:
    """Return the spans of one trace as indented lines with milliseconds and attributes.

    A span whose parent is not among them stands at the left.
    """
    ordered = sorted(spans, key=lambda span: span.began)
    known = {span.span_id for span in ordered}
    children: dict[str | None, list[SpanLine]] = {}
    for span in ordered:
        children.setdefault(span.parent_id if span.parent_id in known else None, []).append(span)
    return "\n".join(_lines(children, None, ""))


def _lines(
    children: Mapping[str | None, Sequence[SpanLine]], parent: str | None, indent: str
) -> Iterator[str]:
    siblings = children.get(parent, ())
    for place, span in enumerate(siblings, start=1):
        last = place == len(siblings)
        mark, below = ("", "") if parent is None else (("└─ ", "   ") if last else ("├─ ", "│  "))
        yield f"{indent}{mark}{_told(span)}"
        yield from _lines(children, span.span_id, indent + below)


def _told(span: SpanLine) -> str:
    facts = [f"{n}={v}" for n, v in span.attributes.items() if n not in _HIDDEN][:_SHOWN]
    fault = " FAILED" if span.failed else ""
    return (
        f"{span.name}  {(span.ended - span.began) / 1e6:.1f} ms{fault}  {' '.join(facts)}".rstrip()
    )
