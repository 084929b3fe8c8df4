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


MAX_ENTRIES = 5_000
"""How many files and folders are looked at, those near the home first: about 20 ms of time."""
MAX_REPORTED = 100
MAX_PATH_BYTES = 1_024
_PASSED_OVER = {"__pycache__", "node_modules"}


def changed_since(home: str, mark_ns: int, given: Collection[str] = ()) -> tuple[list[Changed], int, bool]:
    """Returns files below `home` that have changed since the mark, how many more have, and whether it saw them all.

    The mark is the `st_ctime_ns` of a file that was written then: the file system's clock goes in steps of some
    milliseconds, and no program can set a file's ctime. Of files `given` (paths below `home`), which were put there
    right before, those of the very mark are not meant. Hidden files and folders, links and caches are passed over.
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
                    size = _size_if_changed(entry, mark_ns, is_given=path in given)
                    if size is None:
                        continue
                    if len(found) < MAX_REPORTED and _can_be_told(path):
                        found.append({"path": path, "size": size})
                    else:
                        more += 1
        except OSError as error:
            print(f"not all files can be seen: {error}", file=sys.stderr)
    return found, more, True


def _size_if_changed(entry: os.DirEntry[str], mark_ns: int, *, is_given: bool) -> int | None:
    try:
        if not entry.is_file(follow_symlinks=False):
            return None
        state = entry.stat(follow_symlinks=False)
    except OSError:  # it has gone meanwhile
        return None
    if state.st_ctime_ns < mark_ns or (is_given and state.st_ctime_ns == mark_ns):
        return None
    return state.st_size


def _can_be_told(path: str) -> bool:
    try:
        return len(path.encode()) <= MAX_PATH_BYTES and path.isprintable()
    except UnicodeEncodeError:  # a name that is no text
        return False
