"""How a serving process shares its processor."""

import sys

from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_served, open_service


async def test_a_serving_process_ends_a_threads_turn_early_and_any_other_does_not(
    settings: Settings,
) -> None:
    usual = sys.getswitchinterval()
    async with open_service(settings):
        assert sys.getswitchinterval() == usual
    async with open_served(settings):
        assert sys.getswitchinterval() < usual / 5
    assert sys.getswitchinterval() == usual
