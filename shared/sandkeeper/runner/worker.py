"""Runs what was accepted: one at a time, in order, each to an end that is told."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque

from sandkeeper.runner.kernel import Kernel, oom_kills
from sandkeeper.runner.runs import Run, Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sandkeeper.runner.runs import Event, Order

STOP_AGAIN_S = 1.0
STOPS_BEFORE_RESTART = 5
"""How often code that does not end is interrupted, before its kernel is restarted."""
MAX_QUEUED = 20
MAX_ERROR_CHARS = 200_000
_OUTPUT = {"stdout", "stderr", "result", "error"}


class Refused(Exception):
    """The run is not accepted; `word` says why: `busy` or `full`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Worker:
    """The one that runs code."""

    def __init__(self, spool: Spool, kernel: Kernel) -> None:
        self._spool = spool
        self._kernel = kernel
        self._running: Run | None = None
        self._queue: deque[tuple[Run, str]] = deque()
        self._changed = threading.Condition()

    def start(self) -> None:
        """Runs from now on what is accepted, after an end for what was left without one."""
        left = list(self._spool.unfinished())
        for run in left:
            run.add("end", end="lost", reset=False)
        if left:
            self._kernel.interrupt()  # it may still be busy with one of them
        threading.Thread(target=self._work, daemon=True).start()

    def open(self) -> list[Run]:
        """Returns what has been accepted and not ended, in order: the first is under way, or about to be."""
        with self._changed:
            running = [self._running] if self._running and not self._running.ended else []
            return [*running, *(run for run, _ in self._queue)]

    def accept(self, run_id: str, order: Order, code: str) -> Run:
        """Returns the run of this id, which from now on is run when its turn comes. Raises `Refused`."""
        with self._changed:
            known = self._spool.get(run_id)
            if known is not None:
                return known
            before = self.open()
            if before and order["on_busy"] == "reject":
                raise Refused("busy")
            if len(self._queue) >= MAX_QUEUED:
                raise Refused("full")
            run = self._spool.new(run_id)
            run.add("accepted", **order, ahead_ms=sum(other.order["limit_ms"] for other in before))
            self._queue.append((run, code))
            self._changed.notify_all()
            return run

    def restart(self) -> None:
        """Replaces the kernel, which ends what is running. Raises `OSError` when it may not have worked."""
        self._kernel.restart("restarted")

    def cancel(self, run: Run) -> bool:
        """Lets the run end soon, at once if it has not begun; returns whether there was anything to end."""
        with self._changed:
            for waiting in self._queue:
                if waiting[0] is run:
                    self._queue.remove(waiting)
                    run.add("end", end="cancelled", reset=False)
                    return True
        with run.changed:
            was_open = not run.ended
            run.stop("cancelled")
        return was_open

    def _work(self) -> None:
        self._kernel.ready()  # beside whatever its first caller still does
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._queue)
                run, code = self._queue.popleft()
                self._running = run
            try:
                self._run(run, code)
            except Exception as error:  # noqa: BLE001 - whatever it was, the run must end
                print(f"{run.id} is lost: {error!r}", file=sys.stderr)
                run.add("end", end="lost", reset=False)

    def _run(self, run: Run, code: str) -> None:
        reset = self._kernel.ready()
        if run.stop_for:
            run.add("end", end=run.stop_for, reset=reset is not None)
            return
        run.add("started", reset=reset)
        Attempt(run, self._kernel).make(code)


class Attempt:
    """The one time that a run's code is run: its events heard on this thread, its limits watched on another."""

    def __init__(self, run: Run, kernel: Kernel) -> None:
        self._run = run
        self._kernel = kernel
        self._left_bytes = run.order["output_bytes"]
        self._is_over = False
        self._was_stopped = False
        self._was_restarted = False

    def make(self, code: str) -> None:
        """Returns when the run has ended."""
        kills = oom_kills()
        guard = threading.Thread(target=self._guard, daemon=True)
        guard.start()
        has_ended, error = self._hear(code)
        died = error is not None and error["name"] == "ContextRestarting" and not error["traceback"]
        if error is not None and not died:
            self._tell(error)
        with self._run.changed:
            self._is_over = True
            self._run.changed.notify_all()
        guard.join()
        if died:
            self._kernel.note_reset("kernel_died")
        end = "finished" if has_ended else "lost"
        if died:
            end = "out_of_memory" if oom_kills() > kills else "kernel_died"
        if self._was_stopped or self._run.stop_for == "output_limit":
            end = self._run.stop_for or end
        self._run.add("end", end=end, reset=died or self._was_restarted)

    def _hear(self, code: str) -> tuple[bool, Event | None]:
        """Returns whether the interpreter has said that it is over, and an error that was the last that it said."""
        last_error: Event | None = None
        has_ended = False
        try:
            for line in self._kernel.execute(code):
                event = {"type": "too_long"} if line is None else json.loads(line)
                if event["type"] == "end_of_execution":
                    has_ended = True
                elif event["type"] in _OUTPUT or line is None:
                    if last_error is not None:
                        self._tell(last_error)
                        last_error = None
                    if event["type"] == "error":
                        last_error = event  # not told yet: it may be the interpreter's word that the kernel is gone
                    else:
                        self._tell(event)
        except (OSError, ValueError) as failure:
            print(f"the interpreter's answer ends early: {failure}", file=sys.stderr)
        return has_ended, last_error

    def _tell(self, event: Event) -> None:
        """Adds the event, as much of it as may be said."""
        kind = event["type"]
        fields = {name: value for name, value in event.items() if name not in {"type", "timestamp"}}
        if kind == "error":
            cut = {name: str(value)[:MAX_ERROR_CHARS] for name, value in fields.items()}
            self._run.add("error", **cut)
            return
        size = self._left_bytes + 1 if kind == "too_long" else _size(fields)
        if size > self._left_bytes:
            if "text" in fields and kind in {"stdout", "stderr"} and self._left_bytes > 0:
                text = fields["text"].encode()[: self._left_bytes].decode(errors="ignore")
                self._run.add(kind, text=text)
            self._left_bytes = 0
            self._run.stop("output_limit")
            return
        self._left_bytes -= size
        self._run.add(kind, **fields)

    def _guard(self) -> None:
        """Ends the run at its limit, or when it is to stop."""
        run = self._run
        with run.changed:
            if not run.changed.wait_for(lambda: self._is_over or run.stop_for, run.order["limit_ms"] / 1000):
                run.stop_for = "timeout"
        for _ in range(STOPS_BEFORE_RESTART):
            with run.changed:
                if self._is_over:
                    return
                self._was_stopped = True
            self._kernel.interrupt()
            with run.changed:
                if run.changed.wait_for(lambda: self._is_over, STOP_AGAIN_S):
                    return
        self._was_restarted = True
        try:
            self._kernel.restart("kernel_died")
        except OSError as error:
            print(f"the kernel that {run.id} holds cannot be restarted: {error}", file=sys.stderr)


def _size(fields: Event) -> int:
    """Returns how many bytes an event's fields are."""
    if set(fields) == {"text"}:
        return len(fields["text"].encode())
    return len(json.dumps(fields))
