"""Sandboxes that share the host's network, or even its files, are used like others, and never mistaken."""

import socket
from collections.abc import Iterator

import pytest

from sandkeeper.model import Display, EndReason, RunEnd, SandboxRef
from sandkeeper.ports import SandboxProvider
from sandkeeper.runner.__main__ import PORT
from sandkeeper.runs import Cancelled, Started
from tests.contract.sandboxes import (
    GOES_ON,
    NO_TIME,
    TEN_SECONDS,
    asked,
    create,
    followed,
    local,
    order,
    outcome_of,
    printed,
    ran,
)
from tests.sandbox_server import Server, serve


@pytest.fixture(scope="module", params=["--network", "--no-isolation"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server whose sandboxes are held like this."""
    with serve(request.param, pool_size=2) as server:
        yield server


@pytest.fixture(scope="module")
def provider(server: Server) -> SandboxProvider:
    """The product's own way to that server."""
    return local(server)


@pytest.fixture
def two(server: Server, provider: SandboxProvider) -> Iterator[tuple[SandboxRef, SandboxRef]]:
    """Two sandboxes that run at the same time."""
    both = create(provider), create(provider)
    yield both
    for sandbox in both:
        provider.kill(sandbox.sandbox_id)


def shown(provider: SandboxProvider, sandbox: SandboxRef, code: str) -> str:
    """Returns the main result of a run, as text."""
    outcome = ran(provider, sandbox, code)
    assert outcome.end is RunEnd.FINISHED
    (text,) = (output.data["text/plain"] for output in outcome.outputs if isinstance(output, Display))
    return str(text).strip("'")


def test_each_has_a_runner_and_variables_of_its_own(
    provider: SandboxProvider, two: tuple[SandboxRef, SandboxRef]
) -> None:
    for number, sandbox in enumerate(two):
        ran(provider, sandbox, f"x = {number}")
    assert [shown(provider, sandbox, "x") for sandbox in two] == ["0", "1"]


def test_a_run_is_known_in_its_own_sandbox_alone(
    provider: SandboxProvider, two: tuple[SandboxRef, SandboxRef]
) -> None:
    same = [order(f"print({number})", run_id="same") for number in range(2)]
    told = [outcome_of(asked(provider, sandbox, wanted)) for sandbox, wanted in zip(two, same, strict=True)]
    assert [printed(outcome) for outcome in told] == ["0\n", "1\n"]


def test_what_is_stopped_or_started_afresh_in_one_goes_on_in_the_other(
    provider: SandboxProvider, two: tuple[SandboxRef, SandboxRef]
) -> None:
    first, second = two
    ran(provider, second, "kept = 'yes'")
    ran(provider, first, "lost = 'yes'")
    asked(provider, second, going_on := order(GOES_ON), wait=NO_TIME)

    provider.restart_kernel(first)
    assert provider.cancel(first).found is False
    running = provider.run(first, stopped := order(GOES_ON), wait=TEN_SECONDS)
    started = next(event.what for event in running if isinstance(event.what, Started))
    assert provider.cancel(first, stopped.run_id) == Cancelled(found=True, ended=True)

    assert started.reset is EndReason.RESTARTED
    assert shown(provider, first, "'lost' in globals()") == "False"
    assert provider.cancel(second, going_on.run_id).found
    assert outcome_of(followed(provider, second, going_on.run_id)).end is RunEnd.CANCELLED
    assert shown(provider, second, "kept") == "yes"


def test_a_runner_ends_with_its_sandbox(provider: SandboxProvider, two: tuple[SandboxRef, SandboxRef]) -> None:
    addresses = [shown(provider, sandbox, "import os\nos.environ['RUNNER_LOOPBACK']") for sandbox in two]
    assert [answers(address) for address in addresses] == [True, True]

    provider.kill(two[0].sandbox_id)

    assert [answers(address) for address in addresses] == [False, True]


def answers(address: str) -> bool:
    """Returns whether somebody listens at the runner's port: the network is the host's."""
    with socket.socket() as probe:
        return probe.connect_ex((address, PORT)) == 0
