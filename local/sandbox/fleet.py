"""All sandboxes of the server: created, found, listed and ended."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from local.sandbox.pool import Pool
from local.sandbox.sandbox import Sandbox, Spec, State


class UnknownSandboxError(Exception):
    """Raised for a sandbox that never existed or is gone."""


class TooManySandboxesError(Exception):
    """Raised when as many sandboxes run as the server may have; ending one helps."""


class KeyReusedError(Exception):
    """Raised when an idempotency key comes again with another request; a new key helps."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which sandboxes to list."""

    metadata: Mapping[str, str]
    states: frozenset[State] = frozenset({State.RUNNING, State.PAUSED})
    started_after: datetime | None = None
    template_id: str | None = None

    def fits(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox is among them."""
        return (
            sandbox.state in self.states
            and self.metadata.items() <= sandbox.spec.metadata.items()
            and (self.started_after is None or sandbox.started_at >= self.started_after)
            and self.template_id in {None, sandbox.spec.template_id}
        )


class Fleet:
    """Every sandbox ever created, those that are gone as mere records."""

    def __init__(self, pool: Pool, *, max_sandboxes: int, network: bool) -> None:
        self._pool = pool
        self._max_sandboxes = max_sandboxes
        self._network = network
        self._sandboxes: dict[str, Sandbox] = {}
        self._creating = 0
        self._requests: dict[str, tuple[Spec, asyncio.Task[Sandbox]]] = {}

    def __iter__(self) -> Iterator[Sandbox]:
        return iter(self._sandboxes.values())

    async def create(self, spec: Spec, key: str | None = None) -> Sandbox:
        """A new running sandbox, or the one that an earlier create with the same idempotency key made.

        A second create that comes while the first is under way waits for it; a failed create frees its key.
        """
        if key is None:
            return await self._create(spec)
        if key not in self._requests:
            task = asyncio.create_task(self._create(spec))
            self._requests[key] = (spec, task)
            task.add_done_callback(lambda done: self._requests.pop(key) if _failed(done) else None)
        known, task = self._requests[key]
        if known != spec:
            raise KeyReusedError(f"the idempotency key {key!r} was used for another request; choose a new one")
        return await asyncio.shield(task)

    def get(self, sandbox_id: str) -> Sandbox:
        """The running or paused sandbox of this id."""
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.state.is_live:
            raise UnknownSandboxError(f"sandbox {sandbox_id!r} was not found")
        return sandbox

    def list(self, query: Query) -> list[Sandbox]:
        """The sandboxes that fit, the oldest first."""
        return sorted(filter(query.fits, self), key=lambda sandbox: (sandbox.started_at, sandbox.id))

    async def close(self) -> None:
        """No sandbox is left."""
        await asyncio.gather(*(sandbox.end(State.KILLED) for sandbox in self))

    async def _create(self, spec: Spec) -> Sandbox:
        live = sum(sandbox.state.is_live for sandbox in self)
        if live + self._creating >= self._max_sandboxes:
            raise TooManySandboxesError(f"{self._max_sandboxes} sandboxes exist, which is the limit; end one first")
        self._creating += 1
        try:
            cell = await self._pool.take(network=self._network and spec.internet_access is not False)
            sandbox = Sandbox(cell, spec)
            try:
                await sandbox.init()
            except BaseException:
                await cell.destroy()
                raise
            self._sandboxes[sandbox.id] = sandbox
            return sandbox
        finally:
            self._creating -= 1


def _failed(task: asyncio.Task[Sandbox]) -> bool:
    return task.cancelled() or task.exception() is not None
