"""Sandboxes in memory."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sandkeeper.model import (
    Clock,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Stream,
    utc_now,
)
from sandkeeper.ports import Listed, SandboxGone, SandboxPage, SandboxSpec

Program = Callable[[SandboxRef, str], RunOutcome]


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
    interrupted: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
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

    def run(self, sandbox: SandboxRef, code: str, *, timeout: timedelta) -> RunOutcome:
        """See `SandboxProvider.run`."""
        self._files(sandbox.sandbox_id)
        return self.program(sandbox, code)

    def interrupt(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.interrupt`."""
        self._files(sandbox.sandbox_id)
        self.interrupted.append(sandbox.sandbox_id)

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.restart_kernel`."""
        self._files(sandbox.sandbox_id)
        self.restarted.append(sandbox.sandbox_id)

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """See `SandboxProvider.write_file`."""
        self._files(sandbox.sandbox_id)[path] = b"".join(content)

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """See `SandboxProvider.delete_file`."""
        self._files(sandbox.sandbox_id).pop(path, None)

    def _files(self, sandbox_id: str) -> dict[str, bytes]:
        with self._lock:
            if sandbox_id not in self.alive or sandbox_id in self.paused:
                raise SandboxGone(sandbox_id)
            return self.alive[sandbox_id]


def _ref(sandbox_id: str) -> SandboxRef:
    return SandboxRef(sandbox_id=sandbox_id, domain=None, envd_version="0.0.0", envd_token="token")  # noqa: S106
