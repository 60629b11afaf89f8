"""How a serving process shares its processor."""

import gc
import sys
from collections.abc import Iterator

import pytest

from compliance_copilot.pacing import unburdened
from compliance_copilot.settings import Settings
from compliance_copilot.wiring import open_served, open_service


@pytest.fixture
def thawed() -> Iterator[None]:
    """A process of its own; the suite's leaves its modules out of collections."""
    gc.unfreeze()
    yield
    gc.freeze()


async def test_a_serving_process_ends_turns_early_and_collects_no_start_and_any_other_does_not(
    settings: Settings, thawed: None
) -> None:
    usual, thresholds = sys.getswitchinterval(), gc.get_threshold()
    async with open_service(settings):
        assert (sys.getswitchinterval(), gc.get_freeze_count()) == (usual, 0)
    async with open_served(settings):
        assert sys.getswitchinterval() < usual / 5
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold()[:2] == thresholds[:2]
        assert gc.get_threshold()[2] > thresholds[2]
    assert (sys.getswitchinterval(), gc.get_freeze_count()) == (usual, 0)
    assert gc.get_threshold() == thresholds


def test_what_was_left_out_of_collections_before_stays_so(thawed: None) -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    with unburdened():
        assert gc.get_freeze_count() <= before
    assert 0 < gc.get_freeze_count() <= before
