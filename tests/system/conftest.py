"""Models and short cuts for tests with real processes. Everything below is marked `system`."""

from pathlib import Path

import pytest

from tests.fakes.models import write_tiny_model
from tidemill.runtime.catalog import UnknownModelError, resolve_model


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(directory)
    return directory


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real model. `make test` pulls it."""
    try:
        return resolve_model("smollm2-135m")
    except UnknownModelError as error:
        pytest.fail(f"{error}; `make test` does it")
