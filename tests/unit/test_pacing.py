"""How a serving process shares its processor."""

import gc
import sys

from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_served, open_service


async def test_a_serving_process_ends_turns_early_and_collects_no_start_and_any_other_does_not(
    settings: Settings,
) -> None:
    usual = sys.getswitchinterval()
    async with open_service(settings):
        assert (sys.getswitchinterval(), gc.get_freeze_count()) == (usual, 0)
    async with open_served(settings):
        assert sys.getswitchinterval() < usual / 5
        assert gc.get_freeze_count() > 10_000
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (usual, 0)
