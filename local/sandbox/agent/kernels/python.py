"""The Python kernel."""

import ctypes
import gc
import importlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from ipykernel.ipkernel import IPythonKernel

from . import formats


class SandboxPython(IPythonKernel):  # type: ignore[misc]  # untyped
    """IPython with E2B's result formats and with environment variables that last for one run."""

    @classmethod
    def prepare(cls, app: Any, preload: list[str]) -> None:
        """Everything that is slow the first time has happened."""
        formats.install(app.shell)
        for name in preload:
            importlib.import_module(name)
        _rehearse(app.shell)
        _return_memory()

    def start(self) -> None:
        """Takes requests from now on, and interrupts also when code only awaits.

        Tornado does not wake its own loop for what a signal handler leaves there (seen in 6.6). A loop that
        handles some signal wakes for all of them; this one means nothing to a kernel.
        """
        super().start()
        self.io_loop.asyncio_loop.add_signal_handler(signal.SIGWINCH, lambda: None)

    async def do_execute(self, *args: Any, cell_meta: Mapping[str, Any] | None = None, **options: Any) -> Any:
        environment = (cell_meta or {}).get("environment", {})
        os.environ.update(environment.get("kept", {}))
        run = environment.get("run", {})
        before = {name: os.environ.get(name) for name in run}
        os.environ.update(run)
        try:
            return await super().do_execute(*args, **options)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _rehearse(shell: Any) -> None:
    """The first error, and the first plot if plots are preloaded, need not wait for what they import."""
    try:
        raise RuntimeError
    except RuntimeError as reason:
        shell.InteractiveTB.structured_traceback(type(reason), reason, reason.__traceback__)
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot  # noqa: PLC0415 - it is loaded already

        figure, axes = pyplot.subplots()
        axes.plot([0, 1], [0, 1])
        shell.display_formatter.format(figure)
        pyplot.close(figure)


def _return_memory() -> None:
    """What the imports left behind goes back to the system; the rest is not scanned by later collections."""
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)
