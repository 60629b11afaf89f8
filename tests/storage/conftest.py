"""The fixtures of the storage tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import quick_place


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A short folder that every user may enter; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="cc-test-", dir=quick_place()))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)
