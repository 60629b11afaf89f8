"""The table of `benchmarks/failure_points.py`: both SDKs, each point at which a provider fails."""

from benchmarks.failure_points import POINTS, lines
from compliance_copilot.settings import Settings
from tests.standins.running import RunningProvider


async def test_each_point_of_failure_leaves_the_rows_and_the_reason_it_has_to(
    settings: Settings, provider: RunningProvider
) -> None:
    found = await lines(settings, provider)
    assert [line for line in found if not line.holds] == []
    assert len(found) == 2 * len(POINTS)
