"""The Python environment that sandboxes have."""

import json
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

    def environment(self, python: Path, packages: str, home: str, agent: str) -> dict[str, str]:
        """The environment of every process in a sandbox.

        The user's own packages stand first, so that `pip install --user` can replace what the sandbox brings.
        """
        own = f"{home}/.local/lib/python{self.version}/site-packages"
        return {
            "HOME": home,
            "USER": "user",
            "LOGNAME": "user",
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "PATH": f"{home}/.local/bin:{python.parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{own}:{packages}:{agent}",
            "PIP_USER": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OPENBLAS_NUM_THREADS": str(CPU_COUNT),
            "OMP_NUM_THREADS": str(CPU_COUNT),
            "MALLOC_ARENA_MAX": "2",
        }
