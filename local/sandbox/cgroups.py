"""Limits for a whole sandbox where control groups can be written; an extra to the limits per process.

Version 1 gives each controller a tree of its own; version 2 has one tree. In both, a server's groups lie in
one folder named after its process, so that those of a dead server can be told and removed.
"""

import errno
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_PREFIX = "sandkeeper-"


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The groups of one sandbox, one folder for each tree."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """`pid` and all it starts from now on count against the limits."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """The groups are gone; their processes must have ended."""
        for folder in self.folders:
            _remove(folder)


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The groups of this server: `roots` maps a folder to the limit files that its children have."""

    roots: dict[Path, tuple[str, ...]]

    def create(self, name: str, *, processes: int, memory_bytes: int) -> Cgroup:
        """A new group with these limits."""
        values = {
            "pids.max": processes,
            "memory.max": memory_bytes,
            "memory.limit_in_bytes": memory_bytes,
        }
        for root, files in self.roots.items():
            (root / name).mkdir()
            for file in files:
                (root / name / file).write_text(str(values[file]))
        return Cgroup(tuple(root / name for root in self.roots))

    def remove(self) -> None:
        """The server's own folders are gone; the sandboxes' must be already."""
        for root in self.roots:
            _remove(root)


def find() -> Cgroups | None:
    """This server's place for groups, or None where none can be made."""
    try:
        return _unified() if (_MOUNT / "cgroup.controllers").exists() else _by_controller()
    except OSError:
        return None


def _by_controller() -> Cgroups:
    """Version 1: below the group that the server is in, so that a limit on the server holds for all."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    claimed = {name: _claim(_MOUNT / name / own.get(name, "")) for name in ("pids", "memory")}
    return Cgroups({claimed["pids"]: ("pids.max",), claimed["memory"]: ("memory.limit_in_bytes",)})


def _unified() -> Cgroups:
    """Version 2: below the top, as a group that has processes (the server's) cannot have limited children."""
    root = _claim(_MOUNT)
    try:
        (root / "cgroup.subtree_control").write_text("+pids +memory")
    except OSError:
        _remove(root)
        raise
    return Cgroups({root: ("pids.max", "memory.max")})


def _claim(parent: Path) -> Path:
    """A new folder for this process in `parent`, after those of dead servers have been removed."""
    for stale in parent.glob(f"{_PREFIX}*"):
        if not Path("/proc", stale.name.removeprefix(_PREFIX)).exists():
            for group in (*(child for child in stale.iterdir() if child.is_dir()), stale):
                with suppress(OSError):
                    group.rmdir()
    folder = parent / f"{_PREFIX}{os.getpid()}"
    folder.mkdir()
    return folder


def _remove(folder: Path, attempts: int = 50) -> None:
    """`folder` is gone; the kernel may need a moment to take ended processes out of it."""
    for _ in range(attempts):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.01)
        else:
            return
