"""Runs what was accepted: one at a time, in order, each to an end that is told."""

from __future__ import annotations

import json
import sys
import threading
from _queue import SimpleQueue
from collections import deque

from sandkeeper.runner.allowance import TOO_LONG, Allowance, cut_error
from sandkeeper.runner.changes import changed_since, states_of
from sandkeeper.runner.kernel import Kernel, oom_kills
from sandkeeper.runner.runs import Run, Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sandkeeper.runner.runs import Event, Order

STOP_AGAIN_S = 1.0
STOPS_BEFORE_RESTART = 5
"""How often code that does not end is interrupted, before its kernel is restarted."""
MAX_QUEUED = 20
_OUTPUT = {"stdout", "stderr", "result", "error"}


class Refused(Exception):
    """The run is not accepted; `word` says why: `busy` or `full`."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Worker:
    """The one that runs code."""

    def __init__(self, spool: Spool, kernel: Kernel, home: str) -> None:
        """`home` is the folder of which changed files are told."""
        self._spool = spool
        self._kernel = kernel
        self._home = home
        self._running: Run | None = None
        self._queue: deque[Run] = deque()
        self._changed = threading.Condition()
        self._to_watch: SimpleQueue[Attempt] = SimpleQueue()

    def start(self) -> None:
        """Runs from now on what is accepted, after an end for what was left without one."""
        left = list(self._spool.unfinished())
        for run in left:
            run.add("end", end="lost", reset=False)
        if left:
            self._kernel.interrupt()  # it may still be busy with one of them
        threading.Thread(target=self._work, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def open(self) -> list[Run]:
        """Returns what has been accepted and not ended, in order: the first is under way, or about to be."""
        with self._changed:
            running = [self._running] if self._running and not self._running.ended else []
            return [*running, *self._queue]

    def accept(self, run_id: str, order: Order) -> Run:
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
            self._queue.append(run)
            self._changed.notify_all()
            return run

    def restart(self) -> None:
        """Replaces the kernel, which ends what is running. Raises `OSError` when it may not have worked."""
        self._kernel.restart("restarted")

    def complete(self, code: str, cursor: int) -> Any:
        """Returns what could stand at the cursor, None when the kernel does not say; also while code runs."""
        return self._kernel.complete(code, cursor)

    def cancel(self, run: Run) -> bool:
        """Lets the run end soon, at once if it has not begun; returns whether there was anything to end."""
        with self._changed:
            if run in self._queue:
                self._queue.remove(run)
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
                run = self._running = self._queue.popleft()
            try:
                self._run(run)
            except Exception as error:  # noqa: BLE001 - whatever it was, the run must end
                print(f"{run.id} is lost: {error!r}", file=sys.stderr)
                run.add("end", end="lost", reset=False)
            self._spool.forget_the_oldest()  # nobody waits for it now

    def _run(self, run: Run) -> None:
        reset = self._kernel.ready()
        if run.stop_for:
            if reset is not None:
                self._kernel.note_reset(reset)  # for the next run to tell: this one never began
            run.add("end", end=run.stop_for, reset=reset is not None)
            return
        run.add("started", reset=reset)
        attempt = Attempt(run, self._kernel, self._home)
        self._to_watch.put(attempt)
        attempt.make()

    def _watch(self) -> None:
        """Holds runs to their limits, on a thread that is there before it is needed: to start one takes a while."""
        while True:
            self._to_watch.get().watch()


class Attempt:
    """The one time that a run's code is run: its events heard on one thread, its limits watched on another."""

    def __init__(self, run: Run, kernel: Kernel, home: str) -> None:
        self._run = run
        self._kernel = kernel
        self._home = home
        self._begun_ns = run.written_ns()
        self._given = states_of(home, run.order["given"])
        self._allowance = Allowance(run.order)
        self._stopping = threading.Lock()
        """Held while the kernel is interrupted, and while the run ends: an interrupt never meets the next run."""
        self._is_over = False
        self._was_stopped = False
        self._was_restarted = False
        self._is_restarted = threading.Event()

    def make(self) -> None:
        """Returns when the run has ended."""
        kills = oom_kills()
        has_ended, error = self._hear()
        died = error is not None and error["name"] == "ContextRestarting" and not error["traceback"]
        if error is not None and not died:
            self._add(cut_error(error))  # always: it may be why the run is over
        with self._stopping:
            self._is_over = True
        self._run.stopping.set()
        if self._was_restarted:
            self._is_restarted.wait()
        if died:
            self._kernel.note_reset("kernel_died")
        end = "finished" if has_ended else "lost"
        if died:
            end = "out_of_memory" if oom_kills() > kills else "kernel_died"
        if self._was_stopped or self._run.stop_for == "output_limit":
            end = self._run.stop_for or end
        self._run.add("end", end=end, reset=died or self._was_restarted, **self._changes())

    def _changes(self) -> Event:
        """Returns what the end says of files, if there is anything to say."""
        files, more, has_seen_all = changed_since(self._home, self._begun_ns, self._given)
        told: Event = {}
        if files:
            told["files"] = files
        if more or not has_seen_all:
            told |= {"more_files": more, "all_seen": has_seen_all}
        return told

    def _hear(self) -> tuple[bool, Event | None]:
        """Returns whether the interpreter has said that it is over, and an error that was the last that it said."""
        last_error: Event | None = None
        has_ended = False
        try:
            for line in self._kernel.execute(self._run.order["code"]):
                event = TOO_LONG if line is None else json.loads(line)
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
        told, is_whole = self._allowance.take(event)
        if told is not None:
            self._add(told)
        if not is_whole:
            self._run.stop("output_limit")

    def _add(self, event: Event) -> None:
        fields = {name: value for name, value in event.items() if name not in {"type", "timestamp"}}
        self._run.add(event["type"], **fields)

    def watch(self) -> None:
        """Ends the run at its limit, or when it is to stop; returns once it is over."""
        run = self._run
        if not run.stopping.wait(run.order["limit_ms"] / 1000):
            run.stop("timeout")
        run.stopping.clear()
        for _ in range(STOPS_BEFORE_RESTART):
            with self._stopping:
                if self._is_over:
                    return
                self._was_stopped = True
                self._kernel.interrupt()
            run.stopping.wait(STOP_AGAIN_S)
        with self._stopping:
            if self._is_over:
                return
            self._was_restarted = True
        try:
            self._kernel.restart("kernel_died")
        except OSError as error:
            print(f"the kernel that {run.id} holds cannot be restarted: {error}", file=sys.stderr)
        self._is_restarted.set()
