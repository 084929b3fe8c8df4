"""Cells that wait warm, so that a sandbox is there in milliseconds."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from local.sandbox.cell import Cell

_STARTS_AT_ONCE = 2  # a start keeps a core busy for a second or more, at the cost of code that runs meanwhile
_CALM_S = 0.5
"""How long the replacement of a cell that was taken waits, unless it is wanted: the first run there goes first."""

_log = logging.getLogger(__name__)


@dataclass
class _Replacement:
    """A cell that waits warm, or is on its way."""

    task: asyncio.Task[Cell]
    wanted: asyncio.Event
    """Somebody waits for it: it is started at once."""


class Pool:
    """`size` warm cells; one that is taken is replaced in the background, one at a time."""

    def __init__(self, start: Callable[[bool], Awaitable[Cell]], *, size: int, network: bool) -> None:
        self._start_cell = start
        self._size = size
        self._network = network
        self._waiting: deque[_Replacement] = deque()
        self._starts = asyncio.Semaphore(_STARTS_AT_ONCE)
        self._refills = asyncio.Lock()

    def fill(self) -> None:
        """Enough cells are warm or on their way."""
        self._replace(at_once=True)

    async def take(self, *, network: bool) -> Cell:
        """A warm cell with or without network: one that waits, else a new one."""
        while network == self._network and self._waiting:
            waiting = self._waiting.popleft()
            self._replace(at_once=False)
            waiting.wanted.set()
            cell = await asyncio.shield(waiting.task)
            if cell.is_alive:
                return cell
            await cell.destroy()
        return await self._start(network=network)

    async def close(self) -> None:
        """No cell waits any more and none is on its way."""
        self._size = 0
        tasks = [waiting.task for waiting in self._waiting]
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Cell):
                await outcome.destroy()

    def _replace(self, *, at_once: bool) -> None:
        while len(self._waiting) < self._size:
            wanted = asyncio.Event()
            if at_once:
                wanted.set()
            waiting = _Replacement(asyncio.create_task(self._refill(wanted)), wanted)
            self._waiting.append(waiting)
            waiting.task.add_done_callback(self._drop_failed)

    async def _refill(self, wanted: asyncio.Event) -> Cell:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wanted.wait(), _CALM_S)
        async with self._refills:
            return await self._start(network=self._network)

    async def _start(self, *, network: bool) -> Cell:
        async with self._starts:
            return await self._start_cell(network)

    def _drop_failed(self, task: asyncio.Task[Cell]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.error("no warm sandbox: %s", error)
            # The next create starts a cell of its own, and reports its failure.
            self._waiting = deque(waiting for waiting in self._waiting if waiting.task is not task)
