"""One sandbox as its users see it: running or paused until its deadline, its end, or a call that ends it."""

import asyncio
import secrets
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol

from local.sandbox.cell import Cell


class State(StrEnum):
    """Where a sandbox is in its life; the last four are its end."""

    RUNNING = "running"
    PAUSED = "paused"
    KILLED = "killed"
    EXPIRED = "expired"
    VANISHED = "vanished"  # on demand, as sandboxes in the cloud do now and then
    CRASHED = "crashed"

    @property
    def is_live(self) -> bool:
        """Whether a sandbox in this state can still be used."""
        return self in {State.RUNNING, State.PAUSED}


@dataclass(frozen=True)
class Spec:
    """What the caller of create asked for."""

    template_id: str = "base"
    timeout_s: int = 300
    metadata: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict)
    pause_at_deadline: bool = False
    resume_on_traffic: bool = False
    internet_access: bool | None = None
    public_traffic: bool = True


class Connection(Protocol):
    """A client's connection to a port of the sandbox."""

    def close(self) -> None:
        """The client is disconnected."""
        ...


class Sandbox:
    """One sandbox. Its changes of state are serialised; each method is safe to call in any state."""

    def __init__(self, cell: Cell, spec: Spec) -> None:
        self.id = cell.id
        self.cell = cell
        self.spec = spec
        self.state = State.RUNNING
        self.access_token = secrets.token_hex(20)
        self.traffic_token = None if spec.public_traffic else secrets.token_hex(20)
        self.started_at = datetime.now(UTC)
        self.end_at = self.started_at
        self.ended_at: datetime | None = None
        self.connections: set[Connection] = set()
        self._changing = asyncio.Lock()
        self._deadline: asyncio.TimerHandle | None = None
        self._change: asyncio.Task[bool] | None = None

    async def init(self) -> None:
        """The sandbox is ready for use, and its time runs."""
        names = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": self.id, "E2B_TEMPLATE_ID": self.spec.template_id}
        await self.cell.init(self.access_token, {**names, **self.spec.env_vars})
        self.cell.on_exit(self._crash)
        self.set_timeout(self.spec.timeout_s)

    def set_timeout(self, timeout_s: int) -> None:
        """The deadline is `timeout_s` from now."""
        self._cancel_deadline()
        self.end_at = datetime.now(UTC) + timedelta(seconds=timeout_s)
        self._deadline = asyncio.get_running_loop().call_later(timeout_s, self._expire)

    def extend_timeout(self, timeout_s: int) -> None:
        """The deadline is at least `timeout_s` from now; a later one stays."""
        if datetime.now(UTC) + timedelta(seconds=timeout_s) > self.end_at:
            self.set_timeout(timeout_s)

    async def pause(self) -> bool:
        """The sandbox is paused, with memory and files; False if it was not running."""
        async with self._changing:
            if self.state is not State.RUNNING:
                return False
            self._cancel_deadline()
            self.state = State.PAUSED
            self._disconnect()
            await self.cell.stop()
            self.end_at = datetime.now(UTC)
            return True

    async def resume(self, timeout_s: int) -> bool:
        """The sandbox runs on, for `timeout_s` from now; False if it was not paused."""
        async with self._changing:
            if self.state is not State.PAUSED:
                return False
            await self.cell.resume()
            self.state = State.RUNNING
            self.set_timeout(timeout_s)
            return True

    async def end(self, state: State) -> bool:
        """The sandbox is gone, for the reason that `state` names; False if it was gone already."""
        async with self._changing:
            if not self.state.is_live:
                return False
            self._cancel_deadline()
            self.state = state
            self.ended_at = datetime.now(UTC)
            await self.cell.destroy()
            self._disconnect()
            return True

    def _expire(self) -> None:
        self._begin(self.pause() if self.spec.pause_at_deadline else self.end(State.EXPIRED))

    def _crash(self) -> None:
        self._begin(self.end(State.CRASHED))

    def _begin(self, change: Coroutine[None, None, bool]) -> None:
        self._change = asyncio.create_task(change)  # the loop itself keeps no task alive

    def _cancel_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()

    def _disconnect(self) -> None:
        for connection in list(self.connections):
            connection.close()
