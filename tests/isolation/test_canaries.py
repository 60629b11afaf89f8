"""The short form of row 2: canaries in replies, logs, traces, metrics and outgoing calls."""

from pathlib import Path

from benchmarks.isolation_canaries import Findings, look_at_logs, run, told

SEED = 11


async def test_no_canary_is_where_it_may_not_be() -> None:
    findings = await run(150, 4, SEED, workers=1)
    assert findings.faults == {}, told(findings)
    assert findings.clean, told(findings)
    assert findings.looked["replies"] == 150
    assert findings.looked["outgoing calls"] > 20
    assert findings.looked["traces"] > 500
    assert findings.statuses["query 200"] > 50, told(findings)


def test_a_canary_that_is_there_is_found(tmp_path: Path) -> None:
    findings = Findings()
    findings.only("replies", "canary000000aa", "kept by canary000000aa")
    assert not findings.faults
    findings.only("replies", "canary000000aa", "kept by canary000000bb")
    log = tmp_path / "service.log"
    log.write_text('{"message": "asked: canary000000aa"}\n')
    look_at_logs(findings, log, [])
    assert findings.faults == {"replies": 1, "logs": 1}
