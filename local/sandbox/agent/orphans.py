"""Programs that have let go of whoever started them: where no namespace ends them, it is the agent's task."""

import asyncio
import contextlib
import ctypes
import os
import signal

from .child import Child, children_of

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Descendants whose parent ends are the agent's children from now on: paused and killed with it, and reaped."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _reap)


def end() -> None:
    """No descendant is left, once the agent has ended what it has started itself."""
    while left := children_of(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _reap() -> None:
    for pid in children_of(os.getpid()):
        if pid not in Child.alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
