"""Watches: what happens in a directory, heard from the kernel's inotify."""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["CREATE", "WRITE", "REMOVE", "RENAME", "CHMOD"]

# linux/inotify.h
_IN_MODIFY, _IN_ATTRIB, _IN_MOVED_FROM, _IN_MOVED_TO = 0x2, 0x4, 0x40, 0x80
_IN_CREATE, _IN_DELETE, _IN_ISDIR, _IN_IGNORED, _IN_ONLYDIR = 0x100, 0x200, 0x40000000, 0x8000, 0x1000000
_KINDS: dict[int, Kind] = {
    _IN_CREATE: "CREATE",
    _IN_MOVED_TO: "CREATE",
    _IN_MODIFY: "WRITE",
    _IN_DELETE: "REMOVE",
    _IN_MOVED_FROM: "RENAME",
    _IN_ATTRIB: "CHMOD",
}
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Change:
    """Something happened to `path`, which the watch names `name` (relative to its directory)."""

    name: str
    kind: Kind
    path: Path


class Watch:
    """Tells of changes in a directory until closed."""

    def __init__(self, directory: Path, *, recursive: bool, tell: Callable[[Change], None]) -> None:
        self._directory = directory
        self._recursive = recursive
        self._tell = tell
        self._paths: dict[int, Path] = {}
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            self._add(directory)
        except OSError:
            os.close(self._fd)
            raise
        if recursive:
            for path in _directories_in(directory):
                self._add(path)
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def _add(self, directory: Path) -> None:
        mask = _IN_ONLYDIR
        for bit in _KINDS:
            mask |= bit
        self._paths[_checked(_libc.inotify_add_watch(self._fd, os.fsencode(directory), mask), directory)] = (
            directory
        )

    def _read(self) -> None:
        for watch, mask, name in _events(os.read(self._fd, 64 * 1024)):
            if mask & _IN_IGNORED:
                self._paths.pop(watch, None)
            elif name and watch in self._paths:
                self._hear(self._paths[watch] / name, mask)

    def _hear(self, path: Path, mask: int) -> None:
        for bit, kind in _KINDS.items():
            if mask & bit:
                self._say(path, kind)
        if self._recursive and mask & _IN_ISDIR and mask & (_IN_CREATE | _IN_MOVED_TO):
            self._add_new(path)

    def _add_new(self, directory: Path) -> None:
        """Watches a directory that has just appeared, and tells what got into it before it was watched."""
        try:
            self._add(directory)
            children = list(directory.iterdir())
        except OSError:  # gone again
            return
        for child in children:
            self._say(child, "CREATE")
            if child.is_dir() and not child.is_symlink():
                self._add_new(child)

    def _say(self, path: Path, kind: Kind) -> None:
        self._tell(Change(str(path.relative_to(self._directory)), kind, path))


class Watches:
    """The watches that callers ask for changes from time to time, by id."""

    def __init__(self) -> None:
        self._watches: dict[str, tuple[Watch, list[Change]]] = {}

    def create(self, directory: Path, *, recursive: bool) -> str:
        changes: list[Change] = []
        watch = Watch(directory, recursive=recursive, tell=changes.append)
        watch_id = f"w{os.urandom(8).hex()}"
        self._watches[watch_id] = (watch, changes)
        return watch_id

    def take(self, watch_id: str) -> list[Change]:
        """The changes since the last call; KeyError for an unknown id."""
        _, changes = self._watches[watch_id]
        taken = changes[:]
        changes.clear()
        return taken

    def remove(self, watch_id: str) -> None:
        self._watches.pop(watch_id)[0].close()

    def close(self) -> None:
        for watch_id in list(self._watches):
            self.remove(watch_id)


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


def _directories_in(directory: Path) -> Iterator[Path]:
    for parent, names, _ in os.walk(directory):
        yield from (Path(parent, name) for name in names if not Path(parent, name).is_symlink())


def _checked(result: int, path: Path | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *([] if path is None else [str(path)]))
    return result
