"""The kernel application, without the parts that a sandbox has no use for."""

import sys
from typing import Any

# Completion and debugging are for people at a keyboard; importing what serves them would cost every sandbox
# several MB. User code can still import both.
_UNUSED = ("jedi", "debugpy")
for _name in _UNUSED:
    sys.modules[_name] = None  # type: ignore[assignment]

from ipykernel import debugger  # noqa: E402, F401
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from IPython.core import completer  # noqa: E402, F401

for _name in _UNUSED:
    del sys.modules[_name]


class KernelApp(IPKernelApp):  # type: ignore[misc]  # untyped
    """Listens where the connection file says; no history file, no heartbeat, no chatter on stderr."""

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.config.HistoryManager.enabled = False
        self.config.IPCompleter.use_jedi = False
        self.config.Kernel._execute_sleep = 0

    def init_heartbeat(self) -> None:
        """Nothing: the agent hears of the process's exit from the operating system."""

    def log_connection_info(self) -> None:
        """Nothing: only the agent connects."""
