"""How a serving process shares its processor."""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compliance_copilot.core import cores
from compliance_copilot.pacing import let_threads_roam, seated, unburdened
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


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two of this machine's cores, or one twice over where there is one."""
    some = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, some)
    monkeypatch.setattr(cores, "CORES", frozenset(some))
    yield some
    cores.roam()


async def test_each_of_as_many_workers_as_cores_keeps_to_one_and_its_threads_roam(
    two_cores: list[int], tmp_path: Path
) -> None:
    let_threads_roam()
    with seated(tmp_path, 2) as one:
        assert os.sched_getaffinity(0) == {one}
        assert await asyncio.to_thread(os.sched_getaffinity, 0) == set(two_cores)
        with cores.roaming():
            assert os.sched_getaffinity(0) == set(two_cores)
        with seated(tmp_path, 2) as other:  # as another process would
            assert {one, other} == set(two_cores)
            with seated(tmp_path, 2) as third:
                assert third is None
        cores.roam()
    assert os.sched_getaffinity(0) == set(two_cores)


@pytest.mark.parametrize("workers", [1, 3])
def test_fewer_or_more_workers_than_cores_roam(
    two_cores: list[int], tmp_path: Path, workers: int
) -> None:
    with seated(tmp_path, workers) as core:
        assert core is None
        assert os.sched_getaffinity(0) == set(two_cores)
