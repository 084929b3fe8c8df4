"""What all tests share. A test's tier is the folder that it lies in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World, new_world

TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test with its tier; unit tests may open no socket."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        item.add_marker(tier)
        if tier == "unit":
            item.add_marker(pytest.mark.disable_socket)


@pytest.fixture
def world() -> Iterator[World]:
    """A service on memory adapters."""
    with new_world() as made:
        yield made
