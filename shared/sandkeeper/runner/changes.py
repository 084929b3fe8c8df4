"""Which files a run has left behind: what only the sandbox can see, and no request has to be made for."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypedDict

    class Changed(TypedDict):
        """A file that was created or changed. `path` is relative to the user's home; `size` in bytes."""

        path: str
        size: int

    State = tuple[int, int, int, int]
    """What tells a file from one that was written since: inode, size, mtime, ctime."""
    States = dict[str, State]


MAX_ENTRIES = 5_000
"""How many files and folders are looked at, those near the home first: about 20 ms of time."""
MAX_REPORTED = 100
MAX_PATH_BYTES = 1_024
_PASSED_OVER = {"__pycache__", "node_modules"}


def states_of(home: str, paths: Collection[str]) -> States:
    """Returns how these files (paths below `home`) are now."""
    states: States = {}
    for path in paths:
        try:
            states[path] = _state_of(os.stat(os.path.join(home, path), follow_symlinks=False))
        except OSError:  # it is not there
            continue
    return states


def changed_since(home: str, mark_ns: int, given: States) -> tuple[list[Changed], int, bool]:
    """Returns files below `home` that have changed since the mark, how many more have, and whether it saw them all.

    The mark is the `st_ctime_ns` of a file that was written then: the file system's clock goes in steps of some
    milliseconds, and no program can set a file's ctime. Files `given`, which were put there right before, may bear
    the very mark: they have changed if they are not as they were. Hidden files and folders, links and caches are
    passed over.
    """
    found: list[Changed] = []
    more = seen = 0
    folders = [""]
    for folder in folders:  # it grows meanwhile: what lies near comes first
        try:
            with os.scandir(os.path.join(home, folder)) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MAX_ENTRIES:
                        return found, more, False
                    if entry.name[0] == "." or entry.name in _PASSED_OVER:
                        continue
                    path = os.path.join(folder, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(path)
                        continue
                    size = _size_if_changed(entry, mark_ns, given.get(path))
                    if size is None:
                        continue
                    if len(found) < MAX_REPORTED and _can_be_told(path):
                        found.append({"path": path, "size": size})
                    else:
                        more += 1
        except OSError as error:
            print(f"not all files can be seen: {error}", file=sys.stderr)
    return found, more, True


def _size_if_changed(entry: os.DirEntry[str], mark_ns: int, before: State | None) -> int | None:
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        state = entry.stat(follow_symlinks=False)
    except OSError:  # it has gone meanwhile
        return None
    is_changed = state.st_ctime_ns >= mark_ns if before is None else _state_of(state) != before
    return state.st_size if is_changed else None


def _state_of(state: os.stat_result) -> State:
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _can_be_told(path: str) -> bool:
    try:
        return len(path.encode()) <= MAX_PATH_BYTES and path.isprintable()
    except UnicodeEncodeError:  # a name that is no text
        return False
