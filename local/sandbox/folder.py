"""A server's folder for its sandboxes, of which nothing stays behind."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_SOCKET_PATH = 107  # bytes, of the kernel
_LONGEST_IN_FOLDER = len("/i0123456789abcdefghi/run/relay.sock")


class PathTooLongError(Exception):
    """Raised when sockets in the folder would have names longer than the kernel takes."""


@contextmanager
def own_folder(data_dir: Path) -> Iterator[Path]:
    """A new folder in `data_dir`, removed at the end; those of servers that were killed are removed first.

    A server holds a lock on its folder, and no way to die leaves a lock behind.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with _lock(data_dir, fcntl.LOCK_EX):  # no other server comes between the making of a folder and its lock
        for folder in data_dir.iterdir():
            _remove_stale(folder)
        own = Path(tempfile.mkdtemp(dir=data_dir.resolve()))
        lock = _lock(own, fcntl.LOCK_EX)
        lock.__enter__()
    try:
        excess = len(os.fsencode(own)) + _LONGEST_IN_FOLDER - _LONGEST_SOCKET_PATH
        if excess > 0:
            raise PathTooLongError(f"{str(data_dir)!r} is {excess} bytes too long; choose another with --data-dir")
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
        lock.__exit__(None, None, None)


@contextmanager
def _lock(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    try:
        with _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # a living server's, or gone meanwhile
