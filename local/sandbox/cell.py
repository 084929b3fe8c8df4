"""A cell: the folders, processes and sockets of one sandbox, from the start of its agent to its last file."""

import asyncio
import json
import os
import secrets
import shutil
import string
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from local.sandbox import processes
from local.sandbox.cgroups import Cgroup, Cgroups
from local.sandbox.isolation import Folders, Isolation, Spawned
from local.sandbox.limits import Limits

WARM_TIMEOUT_S = 45  # the agent gives its kernel up before that, and says why
_ALPHABET = string.ascii_lowercase + string.digits


class CellFailedError(Exception):
    """Raised when a cell's agent ended or did not get ready; the message has the last line it wrote."""


class Cell:
    """A running agent with a warm Python kernel; its `id` becomes the sandbox's."""

    def __init__(self, cell_id: str, folders: Folders, spawned: Spawned) -> None:
        self.id = cell_id
        self.folders = folders
        self._spawned = spawned
        self._group: Cgroup | None = None

    @classmethod
    async def start(
        cls, isolation: Isolation, limits: Limits, cgroups: Cgroups | None, parent: Path, *, network: bool
    ) -> "Cell":
        """A new cell in a folder of its own, within its limits, whose kernel is warm."""
        cell_id = "i" + "".join(secrets.choice(_ALPHABET) for _ in range(19))
        folders, caches = Folders(parent / cell_id), parent / "caches"
        await asyncio.to_thread(folders.create, isolation.runtime.version, caches)
        try:
            spawned = await isolation.spawn(folders, network=network)
        except BaseException:
            await asyncio.to_thread(_remove, folders.root)
            raise
        cell = cls(cell_id, folders, spawned)
        try:
            cell._group = limits.group(cgroups, cell_id)
            if cell._group:
                cell._group.add(spawned.pid)
            spawned.release()
            await cell._warm()
            await asyncio.to_thread(folders.keep_caches, caches)  # while no user's code has run
        except BaseException:
            await cell.destroy()
            raise
        return cell

    @property
    def agent_socket(self) -> str:
        """Where the agent speaks envd and the code interpreter."""
        return str(self.folders.run / "agent.sock")

    @property
    def relay_socket(self) -> str:
        """Where the agent opens any port of the sandbox."""
        return str(self.folders.run / "relay.sock")

    @property
    def is_alive(self) -> bool:
        """Whether the agent has not ended."""
        return self._spawned.process.returncode is None

    def on_exit(self, callback: Callable[[], None]) -> None:
        """`callback` is called once, when the agent has ended for whatever reason."""

        async def watch() -> None:
            await self._spawned.process.wait()
            callback()

        self._watch = asyncio.create_task(watch())

    async def init(self, access_token: str, env_vars: dict[str, str]) -> None:
        """The agent demands `access_token` from now on, and gives `env_vars` to commands and kernels."""
        status = await self._call("POST", "/init", {"accessToken": access_token, "envVars": env_vars})
        if status != 204:
            raise CellFailedError(f"the agent of {self.id!r} answered /init with {status}")

    async def stop(self) -> None:
        """No process of the cell runs any more; all keep their memory."""
        await asyncio.to_thread(processes.stop, self._spawned.pid)

    async def resume(self) -> None:
        """All processes go on where they were stopped."""
        await asyncio.to_thread(processes.resume, self._spawned.pid)

    def usage(self) -> processes.Usage:
        """What all processes of the cell use now."""
        return processes.usage(self._spawned.pid)

    async def destroy(self) -> None:
        """No process, control group or folder of the cell is left."""
        processes.kill(self._spawned.pid)
        await self._spawned.process.wait()
        if self._group:
            await asyncio.to_thread(self._group.remove)
        await asyncio.to_thread(_remove, self.folders.root)

    async def _warm(self) -> None:
        try:
            async with asyncio.timeout(WARM_TIMEOUT_S):
                while await self._health() != 204:
                    if not self.is_alive:
                        raise CellFailedError(f"the agent of {self.id!r} ended: {self._last_words()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise CellFailedError(
                f"the agent of {self.id!r} was not ready after {WARM_TIMEOUT_S} s: {self._last_words()}"
            ) from None

    async def _health(self) -> int | None:
        with suppress(OSError, EOFError):  # no socket yet, or one that nobody accepts at
            return await self._call("GET", "/health")
        return None

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        """The status of one small request to the agent."""
        content = json.dumps(body).encode() if body is not None else b""
        reader, writer = await asyncio.open_unix_connection(self.agent_socket)
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                + content
            )
            status_line = await reader.readuntil(b"\r\n")
            return int(status_line.split(b" ", 2)[1])
        finally:
            writer.close()

    def _last_words(self) -> str:
        lines = (self.folders.root / "agent.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"


def _remove(folder: Path) -> None:
    """`folder` is gone, also where the sandbox's user took the permissions off a folder in it."""
    with suppress(FileNotFoundError):
        try:
            shutil.rmtree(folder)
        except PermissionError:
            for parent, names, _ in os.walk(folder):
                for name in names:
                    Path(parent, name).chmod(0o700, follow_symlinks=False)
            shutil.rmtree(folder)
