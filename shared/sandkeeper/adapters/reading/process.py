"""Reads each file in a process of its own, so that no file can harm the function or be read for ever."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any, BinaryIO

from pydantic import TypeAdapter

from sandkeeper.model import FileReading
from sandkeeper.ports import Unreadable

MEMORY_BYTES = 2 * 1024**3
"""The address space of a reading process: a workbook of a million rows takes about half of it."""
TIME_LIMIT = timedelta(seconds=75)
"""Well within the function's own time, so that the file is told as failed and not tried again."""

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class ReaderBroken(Exception):
    """The reading process does not start, or lacks a library. No file's fault: the event is to be repeated."""


@dataclass(frozen=True, slots=True)
class ProcessContentReader:
    """`ContentReader` in child processes.

    The content lies in a file without a name, which is gone with its last reader, however that ends. A child gets
    this file and no credentials: its whole environment is `environment` and where Python finds its modules.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int = MEMORY_BYTES
    time_limit: timedelta = TIME_LIMIT

    def __call__(self, content: Iterable[bytes], *, name: str, content_type: str) -> FileReading:
        """See `ContentReader`."""
        with tempfile.TemporaryFile() as file:
            _spool(content, file, name)
            said = self._ask(file, name, content_type)
        match said:
            case {"reading": reading}:
                return _readings().validate_python(reading)
            case {"unreadable": str(why)}:
                raise Unreadable(why)
        raise ReaderBroken(f"files cannot be read here: {said.get('broken')}")

    def _ask(self, file: BinaryIO, name: str, content_type: str) -> dict[str, Any]:
        """Returns what the child says of the file. Raises `Unreadable` if it dies of it."""
        # Not from the current folder, and with nothing of ours in its environment.
        command = [sys.executable, "-P", "-m", "sandkeeper.adapters.reading", str(file.fileno())]
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(
                [*command, str(self.memory_bytes)],
                input=json.dumps({"name": name, "contentType": content_type}).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libraries quote the content in their messages
                pass_fds=[file.fileno()],
                env={**self.environment, **paths},
                timeout=self.time_limit.total_seconds(),
                check=False,
            )
        except subprocess.TimeoutExpired:
            limit_s = self.time_limit.total_seconds()
            raise Unreadable(f"{name!r} takes longer than {limit_s:g} s to read; upload it in parts") from None
        if done.returncode > 0 or not (done.stdout or done.returncode):
            raise ReaderBroken(f"the process that reads files ended with status {done.returncode}")
        if done.returncode < 0:
            raise Unreadable(
                f"{name!r} cannot be read: its reader crashed, or needed more than {self.memory_bytes} bytes of "
                "memory; save it anew, or upload it in parts"
            )
        said: dict[str, Any] = json.loads(done.stdout)
        return said


def _spool(content: Iterable[bytes], file: BinaryIO, name: str) -> None:
    try:
        for chunk in content:
            file.write(chunk)
        file.flush()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Unreadable(
            f"{name!r} is larger than the disk that it is read from; upload it in parts, or raise the function's "
            "storage"
        ) from None


@cache
def _readings() -> TypeAdapter[FileReading]:
    return TypeAdapter(FileReading)
