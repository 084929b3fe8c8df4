"""envd's RPC services, on the ASGI applications that the `e2b` package generates from their protocol files."""

import importlib.util
import sys
import types

from starlette.types import ASGIApp

from ..commands import Commands
from ..paths import Paths
from ..watches import Watches


def _without_the_sdk() -> None:
    """Makes `e2b.envd` importable alone: the package itself would import the whole SDK, some 50 MB."""
    spec = importlib.util.find_spec("e2b")
    if "e2b" in sys.modules or spec is None:
        return
    package = types.ModuleType("e2b")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["e2b"] = package


_without_the_sdk()

from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication  # noqa: E402
from e2b.envd.process.process_connect import ProcessASGIApplication  # noqa: E402

from .filesystem import FilesystemService  # noqa: E402
from .process import ProcessService  # noqa: E402


def services(paths: Paths, commands: Commands, watches: Watches) -> dict[str, ASGIApp]:
    """The services' applications by name."""
    return {
        "filesystem.Filesystem": FilesystemASGIApplication(FilesystemService(paths, watches)),
        "process.Process": ProcessASGIApplication(ProcessService(paths, commands)),
    }
