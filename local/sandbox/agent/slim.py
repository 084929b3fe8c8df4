"""Keeps libraries from importing what the agent does not use: 6 MB of every sandbox's memory.

uvicorn takes `watchfiles` for reloading, and does without; `uvicorn.main` is its command line, and `click` colours
its log; connectrpc's clients take names from `pyqwest`; jupyter_client's own code imports all that is in it. To be
imported before them, and never in a kernel, where all may be wanted.
"""

import importlib.util
import sys
import types

sys.modules["watchfiles"] = None  # type: ignore[assignment]

for _name in ("pyqwest", "click", "uvicorn.main"):
    sys.modules[_name] = types.ModuleType(_name)
    sys.modules[_name].__getattr__ = lambda name: type(name, (), {})  # type: ignore[method-assign]

_package = importlib.util.find_spec("jupyter_client")
assert _package is not None  # noqa: S101 - it is installed
sys.modules["jupyter_client"] = types.ModuleType("jupyter_client")
sys.modules["jupyter_client"].__path__ = _package.submodule_search_locations or []
