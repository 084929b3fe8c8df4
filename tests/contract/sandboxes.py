"""What the suites of `SandboxProvider` share: what to ask for, how code is run, and the providers they run on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

import pytest

from sandkeeper.adapters.e2b import E2BAccount, E2BSandboxProvider
from sandkeeper.adapters.memory import MemorySandboxProvider
from sandkeeper.adapters.memory.sandboxes import echo
from sandkeeper.model import RunOutcome, SandboxRef, Stream
from sandkeeper.ports import SandboxProvider, SandboxSpec
from sandkeeper.runs import MAX_DISPLAY_BYTES, MAX_OUTPUT_BYTES, Execution, RunEvent, RunOrder, Started
from tests.factories import context
from tests.sandbox_server import Server
from tests.world import CHAT

TEN_SECONDS = timedelta(seconds=10)
FIVE_MINUTES = timedelta(minutes=5)
NO_TIME = timedelta(0)
GOES_ON = "print('half')\nimport time\nfor _ in range(1200): time.sleep(0.05)"
"""Code that does not end until somebody ends it. Memory has it go on for ever, and print nothing."""
MARK = {"app": "sandkeeper", "stack": "contract"}

T = TypeVar("T")

Pause = Callable[[SandboxRef], None]
"""Pauses a sandbox as its deadline would."""


def spec(
    key: str | None = None,
    *,
    lifetime: timedelta = FIVE_MINUTES,
    pauses: bool = True,
    metadata: Mapping[str, str] = MARK,
) -> SandboxSpec:
    """Returns what asks for a sandbox: for a new one, unless the key has been used."""
    return SandboxSpec(
        idempotency_key=key or f"contract-{uuid4()}", lifetime=lifetime, pauses=pauses, metadata=metadata
    )


def create(provider: SandboxProvider, asked: SandboxSpec | None = None) -> SandboxRef:
    """Returns a sandbox."""
    return provider.create(asked or spec(), within=TEN_SECONDS)


def order(
    code: str,
    *,
    run_id: str | None = None,
    limit: timedelta = TEN_SECONDS,
    output_bytes: int = MAX_OUTPUT_BYTES,
    display_bytes: int = MAX_DISPLAY_BYTES,
) -> RunOrder:
    """Returns what asks for a run: for a new one, unless the id has been used."""
    limit_ms = round(limit / timedelta(milliseconds=1))
    known = context(limit_ms=limit_ms, asked_ms=limit_ms)
    return RunOrder(
        run_id=run_id or str(uuid4()),
        code=code,
        context=known,
        output_bytes=output_bytes,
        display_bytes=display_bytes,
    )


def asked(
    provider: SandboxProvider, sandbox: SandboxRef, wanted: RunOrder, *, wait: timedelta = timedelta(seconds=40)
) -> list[RunEvent]:
    """Returns what is told of the run within this time."""
    return [*provider.run(sandbox, wanted, wait=wait)]


def followed(
    provider: SandboxProvider, sandbox: SandboxRef, run_id: str, *, after: int = 0, wait: timedelta = TEN_SECONDS
) -> list[RunEvent]:
    """Returns what is told of a run that there is, behind this number, within this time."""
    return [*provider.follow(sandbox, run_id, after=after, wait=wait)]


def outcome_of(events: list[RunEvent]) -> RunOutcome:
    """Returns what a run gave of which these are all events."""
    assert [event.number for event in events] == [*range(1, len(events) + 1)]
    return Execution.of(CHAT, "run-1", events).outcome


def ran(provider: SandboxProvider, sandbox: SandboxRef, code: str, *, limit: timedelta = TEN_SECONDS) -> RunOutcome:
    """Returns what the code gives."""
    return outcome_of(asked(provider, sandbox, order(code, limit=limit)))


def printed(outcome: RunOutcome, name: str = "stdout") -> str:
    """Returns what a run wrote to a stream: a busy kernel may tell one line in several pieces."""
    return "".join(output.text for output in outcome.outputs if isinstance(output, Stream) and output.name == name)


def only(values: Sequence[T]) -> T:
    """Returns the one value that there is."""
    (value,) = values
    return value


def started(events: list[RunEvent]) -> Started:
    """Returns what is told of a run when its code begins."""
    return only([event.what for event in events if isinstance(event.what, Started)])


def local(server: Server) -> SandboxProvider:
    """Returns the adapter to E2B, led to the local sandbox server."""
    account = E2BAccount(
        api_key="e2b_" + "0" * 40,
        template="code-interpreter-v1",
        api_url=server.url,
        sandbox_url=server.url,
    )
    return E2BSandboxProvider(lambda: account)


class InMemory:
    """A suite's provider: in memory."""

    @pytest.fixture
    def provider(self) -> MemorySandboxProvider:
        """A provider that has no sandbox yet."""
        return MemorySandboxProvider(lambda sandbox, code: None if code == GOES_ON else echo(sandbox, code))

    @pytest.fixture
    def live(self, provider: MemorySandboxProvider) -> SandboxRef:
        """A running sandbox."""
        return create(provider)

    @pytest.fixture
    def pause(self, provider: MemorySandboxProvider) -> Pause:
        """See `Pause`."""
        return lambda sandbox: provider.paused.add(sandbox.sandbox_id)


class OnTheLocalServer:
    """A suite's provider: the local sandbox server, through E2B's SDK, with real kernels."""

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, sandbox_server: Server) -> SandboxProvider:
        """The one provider of all tests of a class."""
        return local(sandbox_server)

    @pytest.fixture(scope="class")
    @classmethod
    def live(cls, provider: SandboxProvider) -> Iterator[SandboxRef]:
        """A running sandbox that all tests of a class share."""
        made = create(provider)
        yield made
        provider.kill(made.sandbox_id)

    @pytest.fixture
    def pause(self, sandboxes: Server) -> Pause:
        """See `Pause`."""
        return lambda sandbox: sandboxes.plan("pause", sandbox_id=sandbox.sandbox_id)
