"""Databases of tests lie in memory only where there is room for them."""

import tempfile
from pathlib import Path

from tests.places import quick_place


def test_a_place_with_room_is_taken_and_a_full_or_missing_one_is_not(tmp_path: Path) -> None:
    usual = tempfile.gettempdir()
    assert quick_place(tmp_path, enough_bytes=1) == str(tmp_path)
    assert quick_place(tmp_path, enough_bytes=2**70) == usual
    assert quick_place(tmp_path / "none", enough_bytes=1) == usual
