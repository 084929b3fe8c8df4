"""A run's events: numbered, kept on disk, and followed by any number of readers."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import OrderedDict

TYPE_CHECKING = False  # typing itself is not imported: that takes longer than all else here
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NotRequired, TypedDict

    class Order(TypedDict):
        """What is asked for. `digest` stands for all of it; `about` is what the caller wants to be told again."""

        code: str
        limit_ms: int
        output_bytes: int
        display_bytes: NotRequired[int]
        on_busy: str
        given: list[str]
        digest: str
        about: dict[str, Any]

    Event = dict[str, Any]

RUNS_IN_MEMORY = 2
RUNS_ON_DISK = 50
BYTES_ON_DISK = 200_000_000
_SUFFIX = ".jsonl"


class Run:
    """A run, from its acceptance to its end, which is its last event."""

    def __init__(self, run_id: str, path: str, events: list[Event]) -> None:
        self.id = run_id
        self.path = path
        self.events = events
        self.ended = bool(events) and events[-1]["type"] == "end"
        self.stop_for: str | None = None
        """Why the run is to end before its time: `timeout`, `cancelled` or `output_limit`."""
        self.stopping = threading.Event()
        """Set when the run is to end, and when it has."""
        self.changed = threading.Condition()
        self._spool: int | None = None

    @property
    def order(self) -> Order:
        """What was asked for."""
        return self.events[0]  # type: ignore[return-value]

    def add(self, kind: str, **fields: object) -> None:
        """Adds an event, to memory even when the disk takes no more."""
        with self.changed:
            event = {"n": len(self.events) + 1, "at": round(time.time() * 1000), "type": kind, **fields}
            self._write(line_of(event))
            self.events.append(event)
            if kind == "end":
                self.ended = True
                self._close()
            self.changed.notify_all()

    def stop(self, reason: str) -> None:
        """Lets the run end for this reason, unless it is to end for another."""
        with self.changed:
            is_first, self.stop_for = self.stop_for is None, self.stop_for or reason
        if is_first:
            self.stopping.set()

    def written_ns(self) -> int:
        """Returns when the last event was kept, by the clock of the file system: see `changes.py`."""
        with self.changed:
            try:
                return os.fstat(-1 if self._spool is None else self._spool).st_ctime_ns
            except OSError:
                return time.time_ns()

    def wait_for_end(self, seconds: float) -> bool:
        """Returns whether the run has ended within this time."""
        with self.changed:
            return self.changed.wait_for(lambda: self.ended, seconds)

    def _write(self, line: bytes) -> None:
        try:
            if self._spool is None:
                self._spool = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(self._spool, line)
        except OSError as error:
            print(f"the spool of {self.id} cannot be written: {error}", file=sys.stderr)

    def _close(self) -> None:
        if self._spool is not None:
            os.close(self._spool)
            self._spool = None


class Spool:
    """All runs that are known. The oldest are forgotten."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._recent: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def get(self, run_id: str) -> Run | None:
        """Returns the run of this id."""
        with self._lock:
            run = self._recent.get(run_id)
        return run or self._from_disk(run_id)

    def new(self, run_id: str) -> Run:
        """Returns a run of this id, without an event."""
        run = Run(run_id, self._path(run_id), [])
        with self._lock:
            self._recent[run_id] = run
            ended = [other.id for other in self._recent.values() if other.ended]
            for other in ended[:-RUNS_IN_MEMORY]:
                del self._recent[other]
        return run

    def unfinished(self) -> Iterator[Run]:
        """Yields what a runner before this one has left without an end."""
        for run_id in self._ids():
            run = self._from_disk(run_id)
            if run is not None and not run.ended:
                yield run

    def _from_disk(self, run_id: str) -> Run | None:
        path = self._path(run_id)
        events = _read(path)
        return Run(run_id, path, events) if events else None

    def _path(self, run_id: str) -> str:
        return os.path.join(self._folder, run_id + _SUFFIX)

    def _ids(self) -> list[str]:
        """Returns the ids of all runs on disk, in the order in which they were last written to."""
        return [run_id for run_id, _ in self._found()]

    def _found(self) -> list[tuple[str, int]]:
        """Returns the same with their sizes."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    seen = entry.stat()
                    found.append((seen.st_mtime_ns, entry.name[: -len(_SUFFIX)], seen.st_size))
        return [(run_id, size) for _, run_id, size in sorted(found)]

    def forget_the_oldest(self) -> None:
        """Deletes from disk what is too much for it."""
        try:
            bytes_kept = 0
            for runs_kept, (run_id, size) in enumerate(reversed(self._found())):
                bytes_kept += size
                is_too_much = runs_kept >= RUNS_ON_DISK or bytes_kept > BYTES_ON_DISK
                if is_too_much and run_id not in self._recent:
                    os.unlink(self._path(run_id))
        except OSError as error:
            print(f"old runs cannot be forgotten: {error}", file=sys.stderr)


def line_of(event: Event) -> bytes:
    """Returns the event as it is kept and sent."""
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def _read(path: str) -> list[Event]:
    """Returns the events of a spool, without a last line that was cut off."""
    try:
        with open(path, "rb") as file:
            return [json.loads(line) for line in file.read().split(b"\n")[:-1]]
    except (OSError, ValueError):
        return []
