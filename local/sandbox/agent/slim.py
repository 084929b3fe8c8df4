"""Keeps libraries from importing what the agent does not use: 3 MB of every sandbox's memory.

uvicorn takes `watchfiles` for reloading, and does without; connectrpc's clients take names from `pyqwest`. To be
imported before them, and never in a kernel, where both may be wanted.
"""

import sys
import types

sys.modules["watchfiles"] = None  # type: ignore[assignment]
sys.modules["pyqwest"] = types.ModuleType("pyqwest")
sys.modules["pyqwest"].__getattr__ = lambda name: type(name, (), {})  # type: ignore[method-assign]
