"""Sandboxes in memory."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sandkeeper.errors import FileNotFound
from sandkeeper.model import (
    Clock,
    EndReason,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Stream,
    utc_now,
)
from sandkeeper.ports import Completion, Completions, Listed, RunUnknown, SandboxGone, SandboxPage, SandboxSpec
from sandkeeper.runs import Accepted, Cancelled, Ended, RunEvent, RunOrder, Started

Program = Callable[[SandboxRef, str], RunOutcome | None]
"""What stands for a kernel: returns what code gives, None while it goes on (see `finish`)."""

LOSES_VARIABLES = {RunEnd.KERNEL_DIED, RunEnd.OUT_OF_MEMORY}


def echo(_: SandboxRef, code: str) -> RunOutcome:
    """Returns the code as if it had been printed."""
    return RunOutcome([Stream("stdout", code)], RunEnd.FINISHED)


@dataclass(slots=True)
class MemorySandboxProvider:
    """`SandboxProvider` without sandboxes: files are kept, and `program` stands for the kernel."""

    program: Program = echo
    clock: Clock = utc_now
    alive: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Sandbox id → path → content."""
    paused: set[str] = field(default_factory=set)
    """Which of these are paused. Nothing pauses by itself here: tests add to it."""
    specs: dict[str, SandboxSpec] = field(default_factory=dict)
    """Sandbox id → what was asked for, of every sandbox there ever was."""
    started: dict[str, datetime] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    runs: dict[tuple[str, str], list[RunEvent]] = field(default_factory=dict)
    """Sandbox id and run id → the run's events."""
    resets: dict[str, EndReason] = field(default_factory=dict)
    """Sandbox id → what its next run is to be told."""
    installed: dict[str, str] = field(default_factory=lambda: {"numpy": "2.3.4", "pandas": "2.3.3"})
    """Package → version, of what every sandbox has."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.create`."""
        with self._lock:
            for sandbox_id, known in self.specs.items():
                if known == spec:
                    return _ref(sandbox_id)
            sandbox_id = f"sbx{len(self.specs) + 1}"
            self.specs[sandbox_id] = spec
            self.started[sandbox_id] = self.clock()
            self.alive[sandbox_id] = {}
        return _ref(sandbox_id)

    def connect(self, sandbox_id: str, lifetime: timedelta, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.connect`."""
        with self._lock:
            if sandbox_id not in self.alive:
                raise SandboxGone(sandbox_id)
            self.paused.discard(sandbox_id)
        return _ref(sandbox_id)

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """See `SandboxProvider.extend`."""
        self._files(sandbox_id)

    def page(self, metadata: Mapping[str, str], *, limit: int, token: str | None = None) -> SandboxPage:
        """See `SandboxProvider.page`: a token is the number of sandboxes that come before."""
        with self._lock:
            found = [
                Listed(sandbox_id=sandbox_id, started_at=self.started[sandbox_id], metadata=spec.metadata)
                for sandbox_id, spec in self.specs.items()
                if sandbox_id in self.alive and metadata.items() <= spec.metadata.items()
            ]
        begin = int(token or 0)
        end = begin + limit
        return SandboxPage(found[begin:end], str(end) if end < len(found) else None)

    def kill(self, sandbox_id: str) -> None:
        """See `SandboxProvider.kill`."""
        with self._lock:
            self.paused.discard(sandbox_id)
            if self.alive.pop(sandbox_id, None) is not None:
                self.killed.append(sandbox_id)

    def prepare(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.prepare`."""
        self._files(sandbox.sandbox_id)

    def run(self, sandbox: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        """See `SandboxProvider.run`. Nobody waits here: of a run that goes on, there is what there is."""
        self._files(sandbox.sandbox_id)
        where = sandbox.sandbox_id, order.run_id
        with self._lock:
            is_new = where not in self.runs
            if is_new:
                self.runs[where] = []
        if is_new:
            reset = self.resets.pop(sandbox.sandbox_id, None)
            self._add(where, Accepted(order.code, order.context), Started(reset))
            outcome = self.program(sandbox, order.code)
            if outcome is not None:
                self._conclude(where, outcome)
        yield from [*self.runs[where]]

    def finish(self, run_id: str, outcome: RunOutcome) -> None:
        """Ends a run that goes on."""
        with self._lock:
            (where,) = (known for known in self.runs if known[1] == run_id)
        self._conclude(where, outcome)

    def _conclude(self, where: tuple[str, str], outcome: RunOutcome) -> None:
        if outcome.end in LOSES_VARIABLES:
            self.resets[where[0]] = EndReason.KERNEL_DIED
        self._add(where, *outcome.outputs, _ended(outcome))

    def follow(self, sandbox: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """See `SandboxProvider.follow`."""
        self._files(sandbox.sandbox_id)
        known = self.runs.get((sandbox.sandbox_id, run_id))
        if known is None:
            raise RunUnknown(run_id)
        return iter(known[after:])

    def cancel(self, sandbox: SandboxRef, run_id: str | None = None) -> Cancelled:
        """See `SandboxProvider.cancel`."""
        self._files(sandbox.sandbox_id)
        if run_id is not None and (sandbox.sandbox_id, run_id) not in self.runs:
            raise RunUnknown(run_id)
        going_on = [other for other in self._going_on(sandbox) if run_id in (None, other)]
        for other in going_on:
            self.finish(other, RunOutcome([], RunEnd.CANCELLED))
        return Cancelled(found=bool(going_on), ended=True)

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.restart_kernel`."""
        self._files(sandbox.sandbox_id)
        self.restarted.append(sandbox.sandbox_id)
        for run_id in self._going_on(sandbox):
            self.finish(run_id, RunOutcome([], RunEnd.KERNEL_DIED))
        self.resets[sandbox.sandbox_id] = EndReason.RESTARTED

    def _going_on(self, sandbox: SandboxRef) -> list[str]:
        with self._lock:
            runs = [*self.runs.items()]
        return [
            run_id
            for (sandbox_id, run_id), events in runs
            if sandbox_id == sandbox.sandbox_id and not isinstance(events[-1].what, Ended)
        ]

    def _add(self, where: tuple[str, str], *what: Any) -> None:
        events = self.runs[where]
        for each in what:
            events.append(RunEvent(len(events) + 1, self.clock(), each))

    def complete(self, sandbox: SandboxRef, code: str, cursor: int) -> Completions | None:
        """See `SandboxProvider.complete`: names are those that code in the sandbox has had."""
        self._files(sandbox.sandbox_id)
        start = cursor - len(re.findall(r"\w*$", code[:cursor])[0])
        ran = [events[0].what for (where, _), events in self.runs.items() if where == sandbox.sandbox_id]
        code_before = " ".join(what.code for what in ran if isinstance(what, Accepted))
        names = {*re.findall(r"[^\W\d]\w*", code_before)}
        found = sorted(name for name in names if name.startswith(code[start:cursor]))
        return Completions(start, cursor, [Completion(name, "variable") for name in found])

    def packages(self, sandbox: SandboxRef) -> Mapping[str, str]:
        """See `SandboxProvider.packages`."""
        self._files(sandbox.sandbox_id)
        return dict(self.installed)

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """See `SandboxProvider.write_file`."""
        self._files(sandbox.sandbox_id)[path] = b"".join(content)

    def read_file(self, sandbox: SandboxRef, path: str) -> Iterator[bytes]:
        """See `SandboxProvider.read_file`."""
        content = self._files(sandbox.sandbox_id).get(path)
        if content is None:
            raise FileNotFound(path)
        return iter([content])

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """See `SandboxProvider.delete_file`."""
        self._files(sandbox.sandbox_id).pop(path, None)

    def _files(self, sandbox_id: str) -> dict[str, bytes]:
        with self._lock:
            if sandbox_id not in self.alive or sandbox_id in self.paused:
                raise SandboxGone(sandbox_id)
            return self.alive[sandbox_id]


def _ended(outcome: RunOutcome) -> Ended:
    return Ended(outcome.end, reset=outcome.end in LOSES_VARIABLES, changes=outcome.changes)


def _ref(sandbox_id: str) -> SandboxRef:
    return SandboxRef(sandbox_id=sandbox_id, domain=None, envd_version="0.0.0", envd_token="token")  # noqa: S106
