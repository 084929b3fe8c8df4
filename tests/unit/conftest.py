"""What the tests of the Python client share."""

import time

import anyio
import pytest

from tests.client_service import FORMS, Service


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client has slept each time; it takes no time."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(anyio, "sleep", sleep)
    return pauses


@pytest.fixture(params=FORMS)
def service(request: pytest.FixtureRequest, slept: list[float]) -> Service:
    """A service that answers what the test says, to the client that waits and to the one that awaits."""
    return Service(request.param)
