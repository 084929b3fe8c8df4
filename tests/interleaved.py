"""Processes that take turns: each goes on until its next call of the outside world; a test says who is next.

Threads serve as coroutines here, so that the real services can be driven step by step. One at a time runs, and
hands its turn back before anybody else gets one: what happens depends on nothing but the test's choices.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

When = Literal["before", "after"]

WAITING = ("sleep", "listen")
"""Where a task stands that waits for time to pass, or for others."""

_current = threading.local()


class Killed(BaseException):
    """The process has ended, in the middle of whatever it did."""


class _Thread:
    """A thread that works for one task after the other: starting one takes longer than most tasks do."""

    idle: ClassVar[list["_Thread"]] = []

    def __init__(self) -> None:
        self._turn, self._back = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._back.acquire()
        self.work: Callable[[], None] = lambda: None
        threading.Thread(target=self._live, daemon=True).start()

    def go_on(self) -> None:
        """Lets the thread go on; returns when it has handed the turn back."""
        self._turn.release()
        self._back.acquire()

    def hand_back(self) -> None:
        """Hands the turn back, and returns when the thread gets it again. To be called in the thread itself."""
        self._back.release()
        self._turn.acquire()

    def _live(self) -> None:
        self._turn.acquire()
        while True:
            self.work()
            self.idle.append(self)
            self.hand_back()


class Task(Future[Any]):
    """Work of a process; whoever asks for its outcome waits without holding up the test."""

    def __init__(self, process: "Process", work: Callable[[], Any]) -> None:
        super().__init__()
        self.process, self._work = process, work
        self._thread = _Thread.idle.pop() if _Thread.idle else _Thread()
        self._thread.work = self._live
        self.awaits: Task | None = None
        self.stopped_at = "start"
        """The call before which it stands."""

    def advance(self) -> None:
        """Lets it go on; returns when it stops before a call, or has ended."""
        self._thread.go_on()

    def stop(self, at: str) -> None:
        """Hands the turn back, and returns when it gets it again. To be called by the task itself."""
        self.stopped_at = at
        self._thread.hand_back()
        if self.process.killed:
            raise Killed

    @property
    def can_go_on(self) -> bool:
        """Whether it has something to do."""
        return not self.done() and (self.awaits is None or self.awaits.done())

    def result(self, timeout: float | None = None) -> Any:
        """See `Future.result`."""
        self._await()
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See `Future.exception`."""
        self._await()
        return super().exception(0)

    def _await(self) -> None:
        waiting: Task | None = getattr(_current, "task", None)
        if waiting is None or waiting is self:
            return
        waiting.awaits = self
        while not self.done():
            waiting.stop("result")
        waiting.awaits = None

    def _live(self) -> None:
        _current.task = self
        try:
            if self.process.killed:
                raise Killed
            self.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the outcome gets it
            self.set_exception(error)


class Process(Executor):
    """Tasks that live and die together. As an executor it runs what a task submits beside that task."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.killed = False
        self.fails: When | None = None
        """Whether the next call fails before it has taken effect, or after."""
        self.failed = False
        """A call has failed by now."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task:
        """Starts a task, which at once goes on to its first call."""
        if self.killed:
            raise Killed
        task = Task(self, lambda: work(*args, **kwargs))
        self.tasks.append(task)
        task.advance()
        return task

    @property
    def main(self) -> Task:
        """The task that the process was started for."""
        return self.tasks[0]

    @property
    def ended(self) -> bool:
        """Whether nothing of it will go on."""
        return all(task.done() for task in self.tasks)

    @property
    def sleeps(self) -> bool:
        """Whether it does nothing but wait for others outside of it."""
        return all(task.stopped_at in WAITING for task in self.tasks if task.can_go_on)

    def stands_before(self, call: str | None) -> bool:
        """Returns whether this call is what comes next, should its oldest task go on that can."""
        return next((task.stopped_at for task in self.tasks if task.can_go_on), None) == call

    def step(self, choice: int) -> None:
        """Lets one of the tasks that can go on do so."""
        able = [task for task in self.tasks if task.can_go_on]
        able[choice % len(able)].advance()

    def go_on(self) -> None:
        """Lets the oldest task go on that can, and rather one that does not sleep."""
        able = [task for task in self.tasks if task.can_go_on]
        min(able, key=lambda task: task.stopped_at in WAITING).advance()

    def kill(self) -> None:
        """Ends all tasks where they stand; nothing that they would still have done takes effect."""
        self.killed = True
        while alive := [task for task in self.tasks if not task.done()]:
            alive[-1].advance()


@dataclass(frozen=True, slots=True)
class Gate:
    """Stands before a port: the process stops before each of these calls, any of which may be made to fail."""

    process: Process
    port: Any
    stops: frozenset[str]
    failure: Callable[[str], BaseException]
    heard: Callable[[str, tuple[Any, ...], dict[str, Any], Any], None] = field(default=lambda *_: None)
    """Learns of each call that has taken effect: its name, its arguments and its outcome."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.port, name)
        return method if name not in self.stops else lambda *args, **kwargs: self._call(name, method, args, kwargs)

    def _call(self, name: str, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pause(name)
        fails, self.process.fails = self.process.fails, None
        self.process.failed = self.process.failed or fails is not None
        if fails == "before":
            raise self.failure(name)
        outcome = method(*args, **kwargs)
        self.heard(name, args, kwargs, outcome)
        if fails == "after":
            raise self.failure(name)
        return outcome


def current() -> Process | None:
    """Returns the process whose turn it is."""
    task: Task | None = getattr(_current, "task", None)
    return None if task is None else task.process


def pause(at: str) -> None:
    """Hands the turn back where a process runs; goes on at once where none does."""
    task: Task | None = getattr(_current, "task", None)
    if task is not None:
        task.stop(at)


def fails_now(when: When) -> bool:
    """Returns whether the call under way is the one that was made to fail so; no later one will be."""
    task: Task | None = getattr(_current, "task", None)
    if task is None or task.process.fails != when:
        return False
    task.process.fails, task.process.failed = None, True
    return True
