from collections.abc import Iterator

import pytest

from tests.standins.running import RunningProvider, running_provider


@pytest.fixture(scope="session")
def shared_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    with running_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def provider(shared_provider: RunningProvider) -> Iterator[RunningProvider]:
    shared_provider.fault("normal")
    yield shared_provider
    shared_provider.fault("normal")
