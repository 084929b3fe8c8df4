"""A child process whose exit the event loop hears of."""

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import ClassVar


class Child:
    """One process, leader of its own session, reaped as soon as it exits."""

    alive: ClassVar[set[int]] = set()
    """Of all of them, those that have not been reaped."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process = process
        self.alive.add(process.pid)
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exited.set_result(self._process.wait())
        self.alive.discard(self.pid)

    def signal(self, number: signal.Signals) -> None:
        """Sends the signal to the process's group; one that has exited stays untouched."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill(self) -> None:
        """The process and all that it started in its session are gone when this returns."""
        for pid in session_members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.shield(self.exited)


def session_members(session_id: int) -> list[int]:
    """The ids of all processes of a session; a background job in a group of its own is among them."""
    return [pid for pid in _all_pids() if _session_of(pid) == session_id]


def children_of(parent: int) -> list[int]:
    """The ids of all processes of which this one is the parent, those included that have ended and wait for it."""
    return [pid for pid in _all_pids() if _parent_of(pid) == parent]


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _parent_of(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text[text.rindex(")") + 2 :].split()[1])


def describe_exit(returncode: int) -> str:
    """`exit status 1` or `signal: killed`, in the words that envd uses."""
    if returncode >= 0:
        return f"exit status {returncode}"
    return f"signal: {(signal.strsignal(-returncode) or str(-returncode)).lower()}"
