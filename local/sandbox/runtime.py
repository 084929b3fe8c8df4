"""The Python environment that sandboxes have."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.sandbox.limits import CPU_COUNT


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Python environment as a sandbox sees it: the interpreter's own files, and the packages."""

    prefix: Path
    prefix_packages: Path
    packages: Path
    version: str
    executable: str

    @classmethod
    def of(cls, python: Path) -> "Runtime":
        """The environment that `python` belongs to, as it says itself."""
        script = (
            "import json, sys, sysconfig as s; b = sys.base_prefix; v = '%d.%d' % sys.version_info[:2]; "
            "own = s.get_path('purelib', vars={'base': b}); "
            "print(json.dumps([b, own, s.get_path('purelib'), v, 'bin/python' + v]))"
        )
        reply = subprocess.run([python, "-I", "-c", script], check=True, capture_output=True, text=True)
        prefix, prefix_packages, packages, version, executable = json.loads(reply.stdout)
        return cls(Path(prefix), Path(prefix_packages), Path(packages), version, executable)

    @property
    def in_usr(self) -> bool:
        """Whether the interpreter comes with the system's /usr, which every sandbox has."""
        return self.prefix.is_relative_to("/usr")

    def environment(self, python: Path, packages: str, home: str, ours: str) -> dict[str, str]:
        """The environment of every process in a sandbox; `ours` is the folder with the agent and `bin`.

        The user's own packages stand first, so that pip can replace what the sandbox brings. pip puts them there
        as it cannot write to the others, and does so also where a system's Python forbids it to.
        """
        own = f"{home}/.local/lib/python{self.version}/site-packages"
        return {
            "HOME": home,
            "USER": "user",
            "LOGNAME": "user",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": f"{home}/.local/bin:{ours}/bin:{python.parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{own}:{packages}:{ours}",
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_WARN_SCRIPT_LOCATION": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            "OPENBLAS_NUM_THREADS": str(CPU_COUNT),
            "OMP_NUM_THREADS": str(CPU_COUNT),
            "MALLOC_ARENA_MAX": "2",
        }


def write_programs(folder: Path, python: Path) -> Path:
    """`folder`, with `python` and `pip` under the names that people type, whatever the interpreter brings."""
    folder.mkdir()
    for name in ("python", "python3"):
        (folder / name).symlink_to(python)
    for name in ("pip", "pip3"):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -m pip "$@"\n')
        (folder / name).chmod(0o755)
    return folder
