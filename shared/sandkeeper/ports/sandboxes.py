"""Sandboxes, and what is done in them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sandkeeper.model import SandboxRef
from sandkeeper.runs import Cancelled, RunEvent, RunOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a new sandbox is to be. Equal specs give one sandbox, however often asked."""

    idempotency_key: str
    lifetime: timedelta
    pauses: bool
    """At the end of its lifetime the sandbox is paused, not killed."""
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A sandbox as the provider lists it."""

    sandbox_id: str
    started_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SandboxPage:
    """Part of a list of sandboxes; `token` leads to the next part, None behind the last."""

    sandboxes: Sequence[Listed]
    token: str | None


@dataclass(frozen=True, slots=True)
class Completion:
    """Text that could stand in the code. `kind`: what it names, such as `attribute`, as far as known."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Completions:
    """What could stand in the place of code from `start` to `end`, in characters. There may be nothing."""

    start: int
    end: int
    matches: Sequence[Completion]


class SandboxGone(Exception):
    """The sandbox is paused or does not exist, and no code was started in it. `connect` tells which."""


class RunLost(SandboxGone):
    """The same, but a run had been asked for before: whether its code was started, nobody knows."""


class RunUnknown(Exception):
    """The sandbox is there, and has no such run."""


class SandboxProvider(Protocol):
    """Sandboxes: made, used by their coordinates, and killed by id. `within` bounds how long a call may take."""

    def create(self, spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        """Creates a sandbox, or returns the one that an equal `spec` has created before."""
        ...

    def connect(self, sandbox_id: str, lifetime: timedelta, *, within: timedelta) -> SandboxRef:
        """Returns the sandbox's coordinates, once it runs and its deadline is at least `lifetime` from now.

        A paused sandbox goes on with its memory and files. Raises `SandboxGone` when there is none any more.
        """
        ...

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """Moves a running sandbox's deadline to `lifetime` from now. Raises `SandboxGone`."""
        ...

    def page(self, metadata: Mapping[str, str], *, limit: int, token: str | None = None) -> SandboxPage:
        """Returns part of the sandboxes, running and paused, that have this metadata; those made first come first.

        Begins where `token` leads.
        """
        ...

    def kill(self, sandbox_id: str) -> None:
        """Ends the sandbox. One that is gone already is as good as killed."""
        ...

    def prepare(self, sandbox: SandboxRef) -> None:
        """Makes the sandbox ready for runs, which they do by themselves else. Raises `SandboxGone`."""
        ...

    def run(self, sandbox: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        """Starts the run, or finds it, and yields its events as they come: to its end, or for this time.

        Goes on without anybody who listens. Events may be missing at the end, and all of them where the sandbox
        does not answer: asking again is harmless. Raises `SandboxGone` or `SandboxUnavailable` before the first
        event, if the code has surely not started, and else `RunLost`.
        """
        ...

    def follow(self, sandbox: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """Yields the events of a run behind the number `after`, as they come: to its end, or for this time.

        Raises `RunUnknown`, `SandboxGone` and `SandboxUnavailable`.
        """
        ...

    def cancel(self, sandbox: SandboxRef, run_id: str | None = None) -> Cancelled:
        """Stops this run, or whatever runs; returns once it has ended, or does not react.

        Raises `RunUnknown`, `SandboxGone`.
        """
        ...

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """Returns once the sandbox has a fresh kernel; code that was running has ended. Raises `SandboxGone`.

        The next run is told.
        """
        ...

    def complete(self, sandbox: SandboxRef, code: str, cursor: int) -> Completions | None:
        """Returns what could stand at the cursor, by what lives in the kernel; None when it does not say it soon.

        Runs nothing and waits for no run. `cursor` counts characters. Raises `SandboxGone`.
        """
        ...

    def packages(self, sandbox: SandboxRef) -> Mapping[str, str]:
        """Returns name → version of the Python packages that code in the sandbox can import. Raises `SandboxGone`.

        The kernel is not asked, so that a run under way does not matter.
        """
        ...

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """Streams `content` to `path`, making its folders. Raises `SandboxGone`."""
        ...

    def read_file(self, sandbox: SandboxRef, path: str) -> Iterator[bytes]:
        """Opens the file and returns its chunks.

        Raises `FileNotFound`, also for what is no file, and `SandboxGone`.
        """
        ...

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """Removes the file, if it is there. Raises `SandboxGone`."""
        ...
