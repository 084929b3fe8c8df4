"""The environment variables that the sandbox's user sees."""

import os
from collections.abc import Mapping
from pathlib import Path

# The folder from which Python imports this package; the user's programs shall not find it.
AGENT_ROOT = str(Path(__file__).resolve().parent.parent)
_USUAL_HOME = "/home/user"
_USUAL_LOOPBACK = "127.0.0.1"


class Environment:
    """What commands and new kernels start with: our own environment, then what `/init` gave."""

    def __init__(self, home: Path, loopback: str) -> None:
        self._base = {**os.environ, "HOME": str(home)}
        # What Sandkeeper's runner has to be told where sandboxes share files or a network.
        if str(home) != _USUAL_HOME:
            self._base["RUNNER_HOME"] = f"{home}/.sandkeeper"
        if loopback != _USUAL_LOOPBACK:
            self._base["RUNNER_LOOPBACK"] = loopback
        self._base["PYTHONPATH"] = without_agent(self._base.get("PYTHONPATH", ""))
        if not self._base["PYTHONPATH"]:
            del self._base["PYTHONPATH"]
        self._given: dict[str, str] = {}

    def update(self, variables: Mapping[str, str]) -> None:
        """Adds these variables to what later programs start with."""
        self._given.update(variables)

    def given(self) -> dict[str, str]:
        """What `/init` gave so far."""
        return dict(self._given)

    def variables(self) -> dict[str, str]:
        """All of them."""
        return {**self._base, **self._given}


def without_agent(python_path: str) -> str:
    """`PYTHONPATH` without our own folder, so that a user's module named like ours is the one imported."""
    return os.pathsep.join(entry for entry in python_path.split(os.pathsep) if entry and not _is_ours(entry))


def _is_ours(entry: str) -> bool:
    return os.path.realpath(entry) == AGENT_ROOT
