"""The session protocol under a microscope: real services that go on call by call, and a judge of what they do.

`Stage` holds the rows, the sandboxes and the time that all share, and starts processes: calls, closings, restarts,
looks and cleanups, each with a clock of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal, Protocol

from sandkeeper.adapters.memory import (
    MemoryArtifactCatalog,
    MemoryArtifactContents,
    MemoryFileCatalog,
    MemoryFileContents,
    MemoryJournal,
)
from sandkeeper.errors import SandboxUnavailable, SandkeeperError, SessionBusy, StoreUnavailable
from sandkeeper.model import ChatKey, Lifetimes
from sandkeeper.ports import RunLog, SandboxGone, SessionStore, SweepStore
from sandkeeper.runs import Execution
from sandkeeper.services.artifacts import Artifacts
from sandkeeper.services.budget import Budget
from sandkeeper.services.cleanup import Cleanup
from sandkeeper.services.collect import Collect
from sandkeeper.services.control import SessionControl
from sandkeeper.services.execute import Execute, Mode, Once, RunReply, RunRequest
from sandkeeper.services.executions import Executions
from sandkeeper.services.hydrate import Hydrate
from sandkeeper.services.quota import SessionQuota
from sandkeeper.services.reconcile import Reconcile
from sandkeeper.services.sessions import OnBusy, Sessions
from tests.interleaved import Gate, Process, pause
from tests.judge import CHATS, Judge
from tests.kernels import NO_TIME, SHORT, Kernels, Program
from tests.world import START

STACK = "protocol"
LIFETIMES = Lifetimes(session_timeout=timedelta(minutes=30), claim_window=timedelta(seconds=12))
"""Claims last shorter here than calls may take, so that callers are overtaken, and go on."""
CALL_ENDS_AFTER = timedelta(seconds=29)
"""Then Lambda ends the function, whatever it does."""
CLEANUP_ENDS_AFTER = timedelta(seconds=240)
LONGEST_RUN = timedelta(seconds=60)
LEASES_OVER = timedelta(seconds=90)
"""By then whoever died is taken for dead, whatever it was about to do, and its run is over."""
ALL_EXPIRED = timedelta(hours=1)

STORE_STOPS = frozenset(
    {
        *("claim", "begin", "point", "activate", "abandon", "leave", "note_sandbox", "release"),
        *("begin_close", "begin_expire", "end", "claimants"),
    }
)
SANDBOX_STOPS = frozenset({"create", "connect", "extend", "kill", "page", "prepare", "cancel", "restart_kernel"})
LOG_STOPS = frozenset({"reserve", "open", "withdraw", "finish"})

Damage = Literal["old", "garbage", "nothing left"]


class Rows(Protocol):
    """A store, and what it takes to write rows into it that no code of ours would."""

    @property
    def store(self) -> SessionStore:
        """The sessions' rows."""
        ...

    @property
    def sweeps(self) -> SweepStore:
        """Where cleanup's sweep stands."""
        ...

    @property
    def runs(self) -> RunLog:
        """The log of runs."""
        ...

    def damage(self, key: ChatKey, how: Damage) -> None:
        """Writes over the chat's row."""
        ...


@dataclass
class Stage:
    """All that the processes share, and those of them that have not ended."""

    rows: Rows
    now: datetime = START
    living: list[tuple[Process, datetime]] = field(default_factory=list)
    """With when they are ended from outside."""

    def __post_init__(self) -> None:
        """Sets up what lies behind the gates."""
        self.sandboxes = Kernels(clock=self.clock)
        self.judge = self.sandboxes.judge = Judge(self.rows.store, self.sandboxes, self.clock)
        self._ids = count(1)
        self._once: dict[ChatKey, tuple[Once, str]] = {}

    def clock(self) -> datetime:
        """Returns the true time."""
        return self.now

    def budget(self, seconds: float) -> Budget:
        """Returns a budget of the stage's time; sleeping hands the turn on."""
        return Budget(self._seconds() + seconds, monotonic=self._seconds, sleep=lambda _: pause("sleep"))

    # ── Processes ───────────────────────────────────────────────────────────────────────────────────

    def call(
        self,
        chat: ChatKey,
        skew: timedelta = NO_TIME,
        program: Program = SHORT,
        *,
        on_busy: OnBusy = "wait",
        mode: Mode = "auto",
        once: Once | None = None,
        code: str | None = None,
    ) -> Process:
        """Starts a call that runs code."""
        process = Process()
        code = code or self._new_id()
        self.sandboxes.programs[code] = program
        request = RunRequest(
            key=chat, code=code, file_ids=None, limit=LONGEST_RUN, on_busy=on_busy, mode=mode, once=once
        )
        execute = self._execute(process, skew)

        def work() -> RunReply:
            reply = execute(request)
            self.judge.answers(process, reply)
            return reply

        return self._start(process, work, CALL_ENDS_AFTER)

    def repeat(self, chat: ChatKey, skew: timedelta, *, anew: bool = False) -> Process:
        """Starts a call that asks for the same run as the one before it; `anew`: for one of its own."""
        if anew or chat not in self._once:
            code = self._new_id()
            self._once[chat] = Once(f"key of {code}", code), code
        once, code = self._once[chat]
        return self.call(chat, skew, once=once, code=code)

    def look(self, chat: ChatKey, skew: timedelta) -> Process:
        """Starts a call that looks at the chat's session."""
        process = Process()
        control, over = SessionControl(self._sessions(process, skew)), self.judge.over(chat)

        def work() -> None:
            control.look(chat)
            self.judge.looked(process, chat, over)

        return self._start(process, work, CALL_ENDS_AFTER)

    def interrupt(self, chat: ChatKey, skew: timedelta) -> Process:
        """Starts a call that stops what the chat's session is running."""
        process = Process()
        control = SessionControl(self._sessions(process, skew))
        return self._start(process, lambda: control.interrupt(chat), CALL_ENDS_AFTER)

    def ask(self, chat: ChatKey, skew: timedelta = NO_TIME, run_id: str | None = None) -> Process:
        """Starts a call that asks what came of a run: of the chat's latest, unless another is named."""
        return self._of_run(chat, skew, run_id, lambda runs, asked: runs.get(chat, asked))

    def cancel(self, chat: ChatKey, skew: timedelta) -> Process:
        """Starts a call that stops the chat's latest run."""
        return self._of_run(chat, skew, None, lambda runs, asked: runs.cancel(chat, asked))

    def follow(self, chat: ChatKey, skew: timedelta) -> Process:
        """Starts a call that follows the chat's latest run for some time."""

        def followed(runs: Executions, asked: str) -> Execution:
            known = runs.get(chat, asked)
            events = [*runs.follow(known, after=0, wait=timedelta(seconds=15))]
            return Execution.of(chat, asked, events) if events and events[0].number == 1 else known

        return self._of_run(chat, skew, None, followed)

    def _of_run(
        self, chat: ChatKey, skew: timedelta, run_id: str | None, use: Callable[[Executions, str], Execution]
    ) -> Process:
        process = Process()
        asked = run_id or self.judge.latest.get(chat, "none")
        self.judge.asks(process, asked)
        executions = self._execute(process, skew).executions

        def work() -> Execution:
            execution = use(executions, asked)
            self.judge.tells(execution)
            return execution

        return self._start(process, work, CALL_ENDS_AFTER)

    def close(self, chat: ChatKey, skew: timedelta) -> Process:
        """Starts a call that closes the chat's session."""
        process = Process()
        sessions = self._sessions(process, skew)
        return self._start(process, lambda: sessions.ending.close(chat), CALL_ENDS_AFTER)

    def restart(self, chat: ChatKey, skew: timedelta) -> Process:
        """Starts a call that restarts the chat's kernel."""
        process = Process()
        control = SessionControl(self._sessions(process, skew))
        return self._start(process, lambda: control.restart(chat), CALL_ENDS_AFTER)

    def cleanup(self, skew: timedelta, *, everything: bool = False) -> Process:
        """Starts a tick of cleanup."""
        process, journal = Process(), MemoryJournal()
        sessions = self._sessions(process, skew)
        reconcile = Reconcile(sessions.ending, STACK, self.rows.sweeps, process, journal)
        tick = Cleanup(sessions.ending, reconcile, process, journal)
        return self._start(
            process, lambda: tick(everything=everything, time_left_s=lambda: 100), CLEANUP_ENDS_AFTER
        )

    def finish(self, process: Process, until: str | None = None) -> None:
        """Lets the process go on until it has ended, waits for somebody else, or stands before the call `until`."""
        tried = False  # one that sleeps may find by now what it waits for
        while not process.ended and not process.stands_before(until) and not (tried and process.sleeps):
            process.go_on()
            tried = True
        self.bury()

    def bury(self) -> None:
        """Forgets processes that have ended. One may only have ended with an answer, or an error of ours."""
        for process, _ in self.living:
            if not process.ended or process.killed:
                continue
            for task in process.tasks:
                error = task.exception()
                expected = SandkeeperError if task is process.main else (SandkeeperError, SandboxGone)
                if error is not None and not isinstance(error, expected):
                    self.judge.complaints.append(f"an unexpected {error!r}")
        self.living = [(process, end) for process, end in self.living if not process.ended]

    def _start(self, process: Process, work: Callable[[], Any], lasts: timedelta) -> Process:
        process.submit(work)
        self.living.append((process, self.now + lasts))
        self.bury()
        return process

    def _execute(self, process: Process, skew: timedelta) -> Execute:
        sessions = self._sessions(process, skew)
        return Execute(
            sessions=sessions,
            executions=Executions(sessions, sessions.collect, sessions.collect.runs),
            hydrate=Hydrate(MemoryFileCatalog(), MemoryFileContents(), sessions.sandboxes, process),
            sandboxes=sessions.sandboxes,
            runs=sessions.collect.runs,
            beside=process,
            new_id=self._new_id,
            journal=MemoryJournal(),
        )

    def _sessions(self, process: Process, skew: timedelta) -> Sessions:
        def clock() -> datetime:
            return self.now + skew

        def fails(name: str) -> SandkeeperError:
            self.judge.unheard = self.judge.unheard or name in ("connect", "finish")
            return SandboxUnavailable(name) if name in SANDBOX_STOPS else StoreUnavailable(name)

        store: Any = Gate(process, self.rows.store, STORE_STOPS, fails, self._hears)
        sandboxes: Any = Gate(process, self.sandboxes, SANDBOX_STOPS, fails, self._hears)
        runs: Any = Gate(process, self.rows.runs, LOG_STOPS, fails, self._hears)
        artifacts = Artifacts(
            MemoryArtifactCatalog(), MemoryArtifactContents(), sandboxes, process, MemoryJournal()
        )
        return Sessions(
            store=store,
            sandboxes=sandboxes,
            lifetimes=LIFETIMES,
            quota=SessionQuota(store, cap=20),
            collect=Collect(store, sandboxes, runs, artifacts, LIFETIMES, clock, MemoryJournal()),
            stack=STACK,
            clock=clock,
            new_id=self._new_id,
        )

    def _hears(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outcome: Any) -> None:
        if name == "kill":
            known = self.sandboxes.specs.get(args[0])
            self.judge.kills(args[0], known.metadata["claim"] if known else "")
        else:
            self.judge.hears(name, args, kwargs, outcome)

    # ── What happens to them ────────────────────────────────────────────────────────────────────────

    def time_passes(self, step: timedelta) -> None:
        """Moves the time on: sandboxes pause, and processes that take too long are ended."""
        self.now += step
        self.sandboxes.lapse(step)
        for process, end in self.living:
            if end <= self.now:
                process.kill()
        self.bury()

    def lose(self, chat: ChatKey) -> None:
        """Ends the chat's sandbox as E2B would, telling nobody."""
        sandbox_id = self._sandbox_of(chat)
        self.judge.vanished.add(sandbox_id)
        self.sandboxes.alive.pop(sandbox_id, None)
        self.sandboxes.paused.discard(sandbox_id)

    def pause(self, chat: ChatKey) -> None:
        """Pauses the chat's sandbox as E2B would, telling nobody."""
        self.sandboxes.stop(self._sandbox_of(chat))
        is_asked = any(task.stopped_at == "follow" for process, _ in self.living for task in process.tasks)
        self.judge.unheard = self.judge.unheard or is_asked

    def damage(self, chat: ChatKey, how: Damage) -> None:
        """Writes over the chat's row by hand."""
        self.rows.damage(chat, how)
        if how != "old":
            self.judge.rewritten.add(chat)

    # ── How it ends ─────────────────────────────────────────────────────────────────────────────────

    def come_to_rest(self) -> Sequence[str]:
        """Lets all processes die; uses each chat once more, and lets all expire. Returns all complaints."""
        for process, _ in self.living:
            process.kill()
        self.bury()
        self.time_passes(LEASES_OVER)
        for chat in CHATS:
            self._use_again(chat)
        for _ in range(2):
            self.time_passes(LEASES_OVER)
            self.finish(self.cleanup(NO_TIME))
        self._complain(bool(self._unreachable()), "sandboxes live that no row points to")
        self._ask_for_what_was_left()
        self.time_passes(ALL_EXPIRED)
        self.finish(self.cleanup(NO_TIME))
        self._complain(bool(self.sandboxes.alive), "sandboxes outlive their sessions")
        self._ask_for_what_was_left()
        self._complain(bool(self._doubled()) and not self.judge.rewritten, "a generation has had two sandboxes")
        return self.judge.looks()

    def _use_again(self, chat: ChatKey) -> None:
        """Runs code in the chat: at once, or when a run is over that a pause had held up."""
        again = self.call(chat, on_busy="reject")
        self.finish(again)
        if isinstance(again.main.exception(), SessionBusy):
            self.time_passes(LEASES_OVER)
            again = self.call(chat, on_busy="reject")
            self.finish(again)
        self._complain(again.main.exception() is not None, f"{chat.chat_id} cannot be used again")

    def _ask_for_what_was_left(self) -> None:
        """Asks for each run that a caller was told goes on: it has ended by now."""
        for run_id, chat in self.judge.left.items():
            asking = self.ask(chat, run_id=run_id)
            self.finish(asking)
            self._complain(asking.main.exception() is not None, f"nobody can say what came of {run_id}")
            if asking.main.exception() is None:
                self._complain(asking.main.result().end is None, f"{run_id} is still running")

    def _complain(self, wrong: bool, what: str) -> None:
        if wrong:
            self.judge.complaints.append(what)

    def _unreachable(self) -> Sequence[str]:
        rows = [row for chat in CHATS if (row := self.rows.store.read(chat)) is not None]
        known = {row.sandbox.sandbox_id for row in rows if row.sandbox is not None}
        return [sandbox_id for sandbox_id in self.sandboxes.alive if sandbox_id not in known]

    def _doubled(self) -> Sequence[str]:
        made = [f"{spec.metadata['chat']}, {spec.metadata['generation']}" for spec in self.sandboxes.specs.values()]
        return [name for name in sorted(set(made)) if made.count(name) > 1]

    def _sandbox_of(self, chat: ChatKey) -> str:
        row = self.rows.store.read(chat)
        return row.sandbox.sandbox_id if row is not None and row.sandbox is not None else ""

    def _seconds(self) -> float:
        return (self.now - START).total_seconds()

    def _new_id(self) -> str:
        return f"id{next(self._ids)}"
