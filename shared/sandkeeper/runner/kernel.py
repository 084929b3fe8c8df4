"""The kernel in which code runs: stopped by signal, and known to be the one that it was, or another."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading

from sandkeeper.runner.greeting import code, completer
from sandkeeper.runner.interpreter import Interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Processes = dict[str, int]
    """Process id → start time, in clock ticks since the machine's start."""

COMPLETE_S = 1.0
"""How long a kernel may think about a completion."""
MAX_COMPLETIONS_BYTES = 200_000
_KERNEL = b"ipykernel_launcher"


class Kernel:
    """The interpreter's kernel."""

    def __init__(
        self, interpreter: Interpreter, path: str, folder: str, mark: str = "", greeted: int | None = None
    ) -> None:
        """Keeps at `path` which kernel it was, so that a runner that comes after this one knows.

        `folder` is where kernels have their sockets. `mark` is in the environment of our kernels, where those of
        others can be seen, too. `greeted` is where the kernel answers that has been greeted already.
        """
        self._interpreter = interpreter
        self._path = path
        self._folder = folder
        self._mark = mark.encode()
        self._greeted = greeted
        self._lock = threading.Lock()
        self._processes, self._reset = self._read()

    def execute(self, code: str) -> Iterator[bytes | None]:
        """Yields the interpreter's events. Raises `OSError` when it does not answer to the end."""
        return self._interpreter.execute(code)

    def complete(self, code: str, cursor: int) -> Any:
        """Returns what could stand at the cursor, as the kernel tells it; None when it does not, or not in time."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(COMPLETE_S)
                paths = (completer(self._folder, process) for process in self._processes)
                connection.connect(next(filter(os.path.exists, paths), ""))
                connection.sendall(json.dumps({"code": code, "cursor": cursor}).encode() + b"\n")
                with connection.makefile("rb") as told:
                    return json.loads(told.read(MAX_COMPLETIONS_BYTES))
        except (OSError, ValueError, RecursionError):  # it has none, is another kernel by now, busy, or not ours
            return None

    def interrupt(self) -> None:
        """Lets running code see `KeyboardInterrupt`; a kernel that runs none takes no notice."""
        for process in _kernels(self._mark):
            try:
                os.kill(int(process), signal.SIGINT)
            except OSError as error:
                print(f"the kernel {process} cannot be interrupted: {error}", file=sys.stderr)

    def restart(self, reason: str) -> None:
        """Replaces the kernel; the next run is told the reason. Raises `OSError` when it may not have worked."""
        self.note_reset(reason)
        self._interpreter.restart()

    def note_reset(self, reason: str) -> None:
        """Lets the next run be told that variables are gone, and why: the first reason counts."""
        with self._lock:
            self._reset = self._reset or reason
            self._write()

    def ready(self) -> str | None:
        """Returns why variables of earlier runs are gone, once; None when they are not. Prepares a new kernel."""
        with self._lock:
            before, reset = self._processes, self._reset
            is_same = bool(before) and all(_started_at(name) == begun for name, begun in before.items())
        if is_same and not reset:
            return None
        if before and not is_same:
            reset = reset or "kernel_died"
        self._prepare()
        with self._lock:
            self._processes, self._reset = _kernels(self._mark), None
            self._write()
        return reset

    def _prepare(self) -> None:
        greeted, self._greeted = self._greeted, None
        answer = self.execute(code(self._folder)) if greeted is None else self._interpreter.answered(greeted)
        try:
            for _ in answer:
                pass
        except OSError as error:
            print(f"the kernel is not prepared: {error}", file=sys.stderr)

    def _read(self) -> tuple[Processes, str | None]:
        try:
            with open(self._path, "rb") as file:
                kept = json.load(file)
            return kept["processes"], kept["reset"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}, None

    def _write(self) -> None:
        try:
            with open(self._path + ".new", "w") as file:
                json.dump({"processes": self._processes, "reset": self._reset}, file)
            os.replace(self._path + ".new", self._path)
        except OSError as error:
            print(f"which kernel it is cannot be kept: {error}", file=sys.stderr)


def _kernels(mark: bytes) -> Processes:
    """Returns every kernel of ours that lives."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if _KERNEL not in file.read().split(b"\0"):
                        continue
                if mark and not _is_marked(name, mark):
                    continue
            except OSError:  # it has ended
                continue
            begun = _started_at(name)
            if begun is not None:
                found[name] = begun
    return found


def _started_at(process: str) -> int | None:
    """Returns when the process began, in clock ticks since the machine's start; None if it has ended."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, *rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if state in b"ZX" else int(rest[18])


def _is_marked(process: str, mark: bytes) -> bool:
    with open(f"/proc/{process}/environ", "rb") as file:
        return mark in file.read().split(b"\0")


def oom_kills() -> int:
    """Returns how many processes have been killed for want of memory since the machine's start; 0 if unknown."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0
