"""What all tests share. A test's tier is the folder that it lies in."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from sandkeeper.http.app import create_app
from sandkeeper.services.budget import Budget
from tests.world import TOKEN, Patience, World, new_world

pytest_plugins = ["tests.sandbox_server", "tests.stack"]

TESTS = Path(__file__).parent
SPREAD = ("test_crash.py", "test_protocol.py")
"""Files of long tests that share little: each test goes to whatever process is free. Others stay together."""
LONGEST_FIRST = (
    *("test_deployed.py", "test_runs.py", "test_page.py", "test_mcp.py", "test_chat.py", "test_client.py"),
    *("test_built_functions.py", "test_demo.py", "test_run_command.py", "test_canaries.py"),
)
"""Files of tests over HTTP that take long: what is begun late is waited for by a process that has nothing to do."""

ALONE = ("test_outputs.py", "test_race.py")
"""Files of tests over HTTP that need the processors for themselves: floods, and many calls at once."""


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out tests file by file, so that what a file's tests share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return nodeid if path.endswith(SPREAD) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Hands out tests in our way. By marks it cannot be done: xdist 3.8 does not find them with pytest 9.2."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test with its tier; unit tests may open no socket."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        item.add_marker(tier)
        if item.path.name in ALONE and tier == "e2e":
            item.add_marker("alone")
        if tier == "unit":
            item.add_marker(pytest.mark.disable_socket)
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    name = item.path.name
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)


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
