"""Every error and metric is in the reference (settings, routes and verbs: test_documentation)."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from compliance_copilot.core import errors
from compliance_copilot.gateway.problems import TABLE
from compliance_copilot.telemetry import metrics

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
ROW = re.compile(r"^\| `([a-z_]+)` \| ([^|]+) \|", re.MULTILINE)
ERRORS, METRICS = (
    dict(ROW.findall(part)) for part in REFERENCE.partition("## Errors")[2].split("## Metrics")
)


def kinds(kind: type[errors.CopilotError]) -> Iterator[type[errors.CopilotError]]:
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield below
            yield from kinds(below)


def test_every_error_is_in_the_reference_with_its_status() -> None:
    assert {code: int(status) for code, status in ERRORS.items()} == {
        code: status for code, (status, _) in TABLE.items()
    }


def test_every_error_type_stands_in_the_tree_and_has_a_row() -> None:
    tree = inspect.getdoc(errors) or ""
    found = list(kinds(errors.CopilotError))
    assert len(found) > 15
    assert [kind.__name__ for kind in found if f" {kind.__name__} " not in tree] == []
    assert {kind.code for kind in found} - set(ERRORS) == {"not_initialized"}


def test_every_metric_is_in_the_reference_with_its_labels() -> None:
    made = {
        metric._name: list(metric._labelnames)
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase)
    }
    assert len(made) > 20
    assert {name: re.findall(r"`(\w+)`", labels) for name, labels in METRICS.items()} == made
