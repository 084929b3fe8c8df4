"""Command line of a kernel's process: `python -P -m agent.kernels LAUNCHER --connection-file FILE …`."""

import argparse
import ctypes
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

from ..environment import AGENT_ROOT, without_agent
from .app import KernelApp

_CLASSES = {"ipykernel_launcher": ("python", "SandboxPython"), "bash_kernel": ("bash", "SandboxBash")}
_PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="kernel", description=__doc__)
    parser.add_argument("launcher", choices=_CLASSES)
    parser.add_argument("--connection-file", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--preload", default="")
    given = parser.parse_args()
    _die_with_parent()
    # IPython's profile stays out of the user's home.
    os.environ.setdefault("IPYTHONDIR", str(given.connection_file.parent))

    # Each kernel's process imports its own language only.
    module, name = _CLASSES[given.launcher]
    kernel_class = getattr(import_module(f".{module}", __package__), name)
    app = KernelApp.instance(kernel_class=kernel_class, connection_file=str(given.connection_file))
    app.initialize([])
    kernel_class.prepare(app, [name for name in given.preload.split(",") if name])
    _leave_no_trace()
    os.write(given.ready_fd, b"1")
    os.close(given.ready_fd)
    app.start()


def _die_with_parent() -> None:
    """The kernel is killed when the agent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave_no_trace() -> None:
    """User code imports from its own directory first, and a module named like ours is its own."""
    ours = __package__.split(".")[0]
    for name in [name for name in sys.modules if name.split(".")[0] == ours]:
        del sys.modules[name]
    sys.path[:] = ["", *(entry for entry in sys.path if entry and os.path.realpath(entry) != AGENT_ROOT)]
    os.environ["PYTHONPATH"] = without_agent(os.environ.get("PYTHONPATH", ""))
    if not os.environ["PYTHONPATH"]:
        del os.environ["PYTHONPATH"]


if __name__ == "__main__":
    main()
