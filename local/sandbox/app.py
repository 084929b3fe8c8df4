"""The server, put together: folders, isolation, pool, fleet, control plane and gateway."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from local.sandbox import bubblewrap, cgroups
from local.sandbox.calls import Calls, error
from local.sandbox.cell import Cell
from local.sandbox.control import Control
from local.sandbox.disk import DiskWatch
from local.sandbox.faults import Faults
from local.sandbox.fleet import Fleet
from local.sandbox.gateway import Gateway
from local.sandbox.isolation import PRELOAD, Isolation, Unisolated
from local.sandbox.limits import DISK_MIB, Limits
from local.sandbox.pool import Pool
from local.sandbox.runtime import Runtime
from local.sandbox.tunnel import FrontDoor


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    kernel_python: Path
    data_dir: Path
    pool_size: int = 2
    max_sandboxes: int = 32
    memory_mib: int = 2048
    disk_mib: int = DISK_MIB
    network: bool = False
    isolated: bool = True
    preload: str = PRELOAD


class SettingsError(Exception):
    """Raised for settings that cannot work here; the message says what to change."""


class Stack:
    """The parts of one server; `running` has them work."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._limits = Limits(memory_mib=settings.memory_mib)
        self._isolation = self._make_isolation()
        self._cgroups = cgroups.find()
        network = settings.network or not settings.isolated
        self._pool = Pool(self._start_cell, size=settings.pool_size, network=network)
        self.fleet = Fleet(self._pool, max_sandboxes=settings.max_sandboxes, network=network)
        self.faults = Faults()

    def config(self, address: str) -> uvicorn.Config:
        """How uvicorn serves it all; `address` is the host and port that clients use."""
        calls = Calls(self.faults)
        control = Control(self.fleet, self.faults, calls, memory_mib=self._settings.memory_mib, domain=address)
        app = Starlette(
            routes=control.routes(),
            lifespan=self._lifespan,
            exception_handlers={404: _no_such_call, 405: _no_such_call},
        )
        front_door = functools.partial(FrontDoor, Gateway(self.fleet, self.faults, calls))
        return uvicorn.Config(
            app,
            http=cast(Any, front_door),
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002
        self._pool.fill()
        watching = asyncio.create_task(DiskWatch(self.fleet, self._folder, self._settings.disk_mib).run())
        try:
            yield
        finally:
            watching.cancel()
            await self._pool.close()
            await self.fleet.close()
            if self._cgroups:
                await asyncio.to_thread(self._cgroups.remove)

    def _make_isolation(self) -> Isolation:
        try:
            runtime = Runtime.of(self._settings.kernel_python)
        except OSError as failure:
            raise SettingsError(
                f"{str(self._settings.kernel_python)!r} cannot be run ({failure.strerror}); "
                "set up the kernel environment, or name another with --kernel-python"
            ) from failure
        if not self._settings.isolated:
            return Unisolated(runtime, self._limits, self._settings.preload)
        files = bubblewrap.write_files(self._folder / "files", runtime)
        bwrap = bubblewrap.find_bwrap()
        return bubblewrap.Bubblewrap(bwrap, runtime, self._limits, files, self._settings.preload)

    async def _start_cell(self, network: bool) -> Cell:
        return await Cell.start(self._isolation, self._limits, self._cgroups, self._folder, network=network)


async def _no_such_call(request: Request, failure: Exception) -> Response:  # noqa: ARG001
    return error(404, f"there is no {request.method} {request.url.path}")
