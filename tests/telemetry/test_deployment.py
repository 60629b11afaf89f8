"""What is deployed beside the service names only what is there: metrics, labels, runbooks."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from compliance_copilot.telemetry import metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
ALERTS = (DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8")
SECTIONS = ("## First look", "## Likely causes", "## Fix", "## How to verify")
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))


def series() -> dict[str, set[str]]:
    """Return every series the service exposes, with its labels."""
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for suffix in SUFFIXES[metric._type]:
                extra = {"le"} if suffix == "_bucket" else set()
                found[metric._name + suffix] = set(metric._labelnames) | extra
    return found


def recorded() -> set[str]:
    return set(re.findall(r"record: (\S+)", ALERTS))


def unknown(expression: str) -> list[str]:
    """Return the metrics and labels of an expression that are not there."""
    known, faults = series(), []
    for name, matchers in re.findall(r"\b(copilot[a-z_:0-9]+m?h?)(?:\{([^}]*)\})?", expression):
        if name in recorded():
            continue
        if name not in known:
            faults.append(name)
            continue
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        faults += [f"{name}.{label}" for label in labels - known[name]]
    return faults


def queries(dashboard: Path) -> Iterator[str]:
    for panel in json.loads(dashboard.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_there_are_two_dashboards_with_queries() -> None:
    assert [d.stem for d in DASHBOARDS] == ["operator", "tenant"]
    assert all(len(list(queries(d))) >= 6 for d in DASHBOARDS)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.stem)
def test_every_query_of_a_dashboard_asks_for_what_is_there(dashboard: Path) -> None:
    assert {q: unknown(q) for q in queries(dashboard) if unknown(q)} == {}


def test_every_rule_asks_for_what_is_there() -> None:
    assert unknown(re.sub(r"^#.*$", "", ALERTS, flags=re.MULTILINE)) == []


def test_a_name_that_is_not_there_is_found() -> None:
    assert unknown("rate(copilot_http_requests_total[5m])") == []
    assert unknown("rate(copilot_http_request_total[5m])") == ["copilot_http_request_total"]
    assert unknown('copilot_jobs{tenant="a"}') == ["copilot_jobs.tenant"]


def test_every_alert_has_a_runbook_that_says_what_to_do() -> None:
    alerts = re.findall(r"- alert: (\w+)\n.*?runbook: (\S+)", ALERTS, re.DOTALL)
    assert len(alerts) >= 15
    assert len(alerts) == ALERTS.count("- alert: ")
    for alert, runbook in alerts:
        text = (ROOT / runbook).read_text("utf-8")
        assert f"`{alert}`" in text, (alert, runbook)
        assert [line for line in text.splitlines() if line.startswith("## ")] == list(SECTIONS)
    named = {Path(runbook).name for _, runbook in alerts}
    assert {page.name for page in (ROOT / "docs" / "runbooks").glob("*.md")} >= named


def test_runbooks_ask_for_metrics_that_are_there() -> None:
    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        assert unknown(page.read_text("utf-8")) == [], page.name


def test_every_alert_is_tested_firing_and_quiet() -> None:
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text("utf-8")
    for alert in re.findall(r"- alert: (\w+)", ALERTS):
        assert f"{alert} fires" in tests
        assert f"{alert} stays quiet" in tests
