"""What all tests share. A test's tier is the folder that it lies in."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sandkeeper.http.app import create_app
from sandkeeper.services.budget import Budget
from tests.world import TOKEN, Patience, World, new_world

pytest_plugins = ["tests.sandbox_server", "tests.stack"]

TESTS = Path(__file__).parent
SPREAD = ("test_crash.py", "test_protocol.py")
"""Files of long tests that share little: each test goes to whatever process is free. Others stay together."""
PATIENT = (
    *("test_chat.py", "test_client.py", "test_demo.py", "test_history.py", "test_loss_ends.py"),
    *("test_mcp.py", "test_notebooks.py", "test_runs.py"),
)
"""Files of tests over HTTP that wait more than they compute. They run beside the others, and take about as long."""

ALONE = ("test_outputs.py", "test_race.py")
"""Files of tests over HTTP that need the processors for themselves: floods, and many calls at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test with its tier; unit tests may open no socket."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        item.add_marker(tier)
        if item.path.name in ALONE and tier == "e2e":
            item.add_marker("alone")
        if tier == "e2e":
            item.add_marker(pytest.mark.xdist_group("patient" if item.path.name in PATIENT else "busy"))
        elif item.path.name not in SPREAD:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        if tier == "unit":
            item.add_marker(pytest.mark.disable_socket)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leaves unit tests the socket pair that an event loop talks to itself through."""
    config.option.allow_unix_socket = True


@pytest.fixture
def event_loop() -> Iterator[None]:
    """Gives Mangum an event loop: it would open one of its own and leave it open, as in Lambda nobody minds."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def world() -> Iterator[World]:
    """A service on memory adapters."""
    with new_world() as made:
        yield made


@pytest.fixture
def patience(world: World, monkeypatch: pytest.MonkeyPatch) -> Patience:
    """Lets the calls of that service wait in no time: it is the world's clock that moves."""
    patience = Patience(world.clock)
    monkeypatch.setattr(Budget, "of", patience.budget)
    return patience


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """A caller of that service who has a valid key."""
    with TestClient(create_app(world.wiring), headers={"Authorization": f"Bearer {TOKEN}"}) as caller:
        yield caller
