"""The session protocol under a microscope: real services that go on call by call, and a judge of what they do.

`Stage` holds the store, the sandboxes and the time that all share, and starts processes: calls, closings, restarts
and cleanups, each with a clock of its own. `Judge` hears of each call that took effect, and complains of what must
not be.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal, Protocol

from sandkeeper.adapters.memory import MemoryFileCatalog, MemoryFileContents, MemoryJournal, MemorySandboxProvider
from sandkeeper.errors import SandboxUnavailable, SandkeeperError, StoreUnavailable
from sandkeeper.model import ChatKey, EndReason, Lifetimes, RunEnd, RunOutcome, SandboxRef, Session, SessionState
from sandkeeper.ports import Granted, SandboxGone, SandboxSpec, SessionStore, SweepStore
from sandkeeper.services.budget import Budget
from sandkeeper.services.cleanup import Cleanup
from sandkeeper.services.control import SessionControl
from sandkeeper.services.execute import Execute, RunReply, RunRequest
from sandkeeper.services.hydrate import Hydrate
from sandkeeper.services.quota import SessionQuota
from sandkeeper.services.reconcile import Reconcile
from sandkeeper.services.sessions import OnBusy, Sessions
from tests.interleaved import Gate, Process, fails_now, pause
from tests.world import START

CHATS = (ChatKey("alice", "one"), ChatKey("bob", "two"))
STACK = "protocol"
LIFETIMES = Lifetimes(session_timeout=timedelta(minutes=30), claim_window=timedelta(seconds=12))
"""Claims last shorter here than calls may take, so that callers are overtaken, and go on."""
CALL_ENDS_AFTER = timedelta(seconds=29)
"""Then Lambda ends the function, whatever it does."""
CLEANUP_ENDS_AFTER = timedelta(seconds=240)
LEASES_OVER = timedelta(seconds=90)
"""By then whoever died is taken for dead, whatever it was about to do."""
ALL_EXPIRED = timedelta(hours=1)
FRESH = ("new", "recreated")

STORE_STOPS = frozenset(
    {
        *("claim", "begin", "point", "activate", "abandon", "renew", "note_sandbox", "note_restart", "release"),
        *("begin_close", "begin_expire", "end", "claimants"),
    }
)
SANDBOX_STOPS = frozenset({"create", "connect", "extend", "kill", "page", "restart_kernel"})

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

    def damage(self, key: ChatKey, how: Damage) -> None:
        """Writes over the chat's row."""
        ...


@dataclass(slots=True, kw_only=True)
class Run:
    """A run whose code has begun."""

    chat: ChatKey
    process: Process
    sandbox_id: str
    claimed: int
    began: int
    """When its code began, in the judge's count of events."""
    until: datetime
    """When its limit ends it."""
    completed: int | None = None
    """When the session was given back with the run counted."""
    ended: bool = False


@dataclass
class Kernels(MemorySandboxProvider):
    """Sandboxes that keep to their deadlines, and tell the judge of runs and restarts."""

    deadlines: dict[str, datetime] = field(default_factory=dict)
    judge: Any = None

    def create(self, spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.create`."""
        ref = super().create(spec, within=within)
        self.deadlines.setdefault(ref.sandbox_id, self.clock() + spec.lifetime)
        return ref

    def connect(self, sandbox_id: str, lifetime: timedelta, *, within: timedelta) -> SandboxRef:
        """See `SandboxProvider.connect`."""
        was_paused = sandbox_id in self.paused
        ref = super().connect(sandbox_id, lifetime, within=within)
        deadline = self.clock() + lifetime
        self.deadlines[sandbox_id] = deadline if was_paused else max(deadline, self.deadlines[sandbox_id])
        return ref

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """See `SandboxProvider.extend`."""
        super().extend(sandbox_id, lifetime)
        self.deadlines[sandbox_id] = self.clock() + lifetime

    def run(self, sandbox: SandboxRef, code: str, *, timeout: timedelta) -> RunOutcome:
        """See `SandboxProvider.run`. The code has had its effect before others get a turn."""
        pause("run")
        if fails_now("before"):
            raise SandboxUnavailable("the sandbox cannot be reached")
        super().run(sandbox, code, timeout=timeout)
        run = self.judge.begins(code, sandbox.sandbox_id, self.clock() + timeout)
        try:
            pause("running")
        finally:
            run.ended = True
        there = sandbox.sandbox_id in self.alive and sandbox.sandbox_id not in self.paused
        if fails_now("after") or not there:
            return RunOutcome([], RunEnd.SANDBOX_LOST)
        return RunOutcome([], RunEnd.FINISHED if self.clock() < run.until else RunEnd.TIMEOUT)

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """See `SandboxProvider.restart_kernel`."""
        super().restart_kernel(sandbox)
        self.judge.restarts_kernel(sandbox.sandbox_id)

    def lapse(self) -> None:
        """Pauses all whose deadline has come."""
        now = self.clock()
        self.paused |= {sandbox_id for sandbox_id in self.alive if self.deadlines[sandbox_id] <= now}


@dataclass
class Judge:
    """Hears of all that takes effect. `complaints` says what must not have been."""

    store: SessionStore
    now: Callable[[], datetime]
    complaints: list[str] = field(default_factory=list)
    rewritten: set[ChatKey] = field(default_factory=set)
    """Chats of which a row was damaged: their generations may begin anew."""
    _events: Iterator[int] = field(default_factory=lambda: count(1))
    _callers: dict[str, tuple[ChatKey, Process]] = field(default_factory=dict)
    """Code, which names its run → who asked for it."""
    _runs: dict[Process, Run] = field(default_factory=dict)
    _completed: dict[ChatKey, list[Run]] = field(default_factory=dict)
    _closed: dict[ChatKey, int] = field(default_factory=dict)
    """When a caller last closed the chat's session."""
    _noted: dict[ChatKey, int] = field(default_factory=dict)
    """When a restart was last noted in the chat's row."""
    _restarted: dict[str, int] = field(default_factory=dict)
    """Sandbox id → when its kernel was last restarted, until a run that came later has told so."""
    _claimed: dict[Process, int] = field(default_factory=dict)
    _expires: dict[ChatKey, datetime] = field(default_factory=dict)
    """When the chat's session expires, as last written."""
    _leases: dict[Process, datetime] = field(default_factory=dict)
    _generations: dict[ChatKey, int] = field(default_factory=dict)

    # ── What it hears ───────────────────────────────────────────────────────────────────────────────

    def calls(self, code: str, chat: ChatKey, process: Process) -> None:
        """Hears who asks for which run."""
        self._callers[code] = (chat, process)

    def hears(
        self, process: Process, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outcome: Any
    ) -> None:
        """Hears of a call of the store that has taken effect."""
        event = next(self._events)
        match name:
            case "release" if outcome:
                self._expires[args[0].key] = kwargs["expires_at"]
                if kwargs["ran"] and process in self._runs:
                    self._complete(self._runs[process], event)
            case "begin_close" if isinstance(outcome, Granted):
                self._expires.pop(args[0], None)
                if kwargs["reason"] is EndReason.CLOSED:
                    self._closed[args[0]] = event
            case "note_restart" if isinstance(outcome, Granted):
                self._noted[args[0]] = event
            case "claim" | "begin" if isinstance(outcome, Granted):
                self._claimed[process] = event
                self._leases[process] = outcome.session.run_until or self.now()
                self._expires[outcome.session.key] = outcome.session.expires_at
            case "renew" if outcome:
                self._leases[process] = kwargs["run_until"]
            case "begin_expire" if isinstance(outcome, Granted):
                if self._expires.get(args[0], self.now()) > self.now() + SKEW and args[0] not in self.rewritten:
                    self.complaints.append(f"{args[0].chat_id} expired before its time")

    def _complete(self, run: Run, event: int) -> None:
        run.completed = event
        self._completed.setdefault(run.chat, []).append(run)

    def begins(self, code: str, sandbox_id: str, until: datetime) -> Run:
        """Hears of a run whose code has had its effect."""
        chat, process = self._callers[code]
        if process in self._runs:
            self.complaints.append(f"{code} of {chat.chat_id} was run twice")
        for other in self._runs.values():
            under_way = other.sandbox_id == sandbox_id and not other.ended and other.until > self.now()
            if under_way and self._holds(process) and self._holds(other.process):
                self.complaints.append(f"two callers run code in {sandbox_id} at once")
        run = Run(
            chat=chat,
            process=process,
            sandbox_id=sandbox_id,
            claimed=self._claimed[process],
            began=next(self._events),
            until=until,
        )
        self._runs[process] = run
        return run

    def _holds(self, process: Process) -> bool:
        """Returns whether the process has a lease, whoever's clock it is held against."""
        return self._leases[process] > self.now() + SKEW

    def restarts_kernel(self, sandbox_id: str) -> None:
        """Hears of a kernel that lost its variables."""
        self._restarted[sandbox_id] = next(self._events)

    def kills(self, sandbox_id: str, claim_id: str) -> None:
        """Hears of a sandbox that the service has ended."""
        for chat in CHATS:
            row = self.store.read(chat)
            if row is not None and row.claim_id == claim_id and _is_in_use(row, sandbox_id, self.now()):
                self.complaints.append(f"{sandbox_id} was killed while the row of {chat.chat_id} was {row.state}")

    # ── What it says ────────────────────────────────────────────────────────────────────────────────

    def answers(self, process: Process, reply: RunReply) -> None:
        """Holds what a caller is told against what has been."""
        run = self._runs.get(process)
        if run is None or run.sandbox_id != reply.sandbox.sandbox_id:
            self.complaints.append("a reply tells of a run that did not take place")
            return
        before = [other for other in self._completed.get(run.chat, []) if other.began < run.began]
        last = max((other for other in before if (other.completed or 0) < run.began), key=_began, default=None)
        for wrong in self._wrong(run, reply, last):
            self.complaints.append(f"{run.chat.chat_id}, generation {reply.session.generation}: {wrong}")

    def _wrong(self, run: Run, reply: RunReply, last: Run | None) -> Iterator[str]:
        goes_on = last is not None and last.sandbox_id == run.sandbox_id
        is_reset = reply.session.reset_reason is not None
        if goes_on and reply.status in FRESH:
            yield f"{reply.status}, though a caller had been told so before"
        if not goes_on and reply.status not in FRESH:
            yield f"{reply.status}, though nobody was told that the state before is gone"
        if last is not None and reply.status == "new" and self._closed.get(run.chat, 0) < last.began:
            yield "new, though nobody closed what was there before"
        if reply.status == "recreated" and not is_reset:
            yield "recreated, and no reason told"
        if goes_on and is_reset and run.chat not in self._noted:
            yield "told of a restart that nobody asked for"
        # A call that had claimed the session before the restart cannot know of it; then the next one tells.
        if self._restarted.get(run.sandbox_id, run.claimed) < run.claimed:
            del self._restarted[run.sandbox_id]
            if goes_on and not is_reset:
                yield "variables are gone with a restart, and nobody was told"

    def looks(self) -> Sequence[str]:
        """Looks at the rows as they are now, and returns all complaints so far."""
        for chat in CHATS:
            row = self.store.read(chat)
            if row is None or row.unreadable or chat in self.rewritten:
                continue
            if row.generation < self._generations.get(chat, 0):
                self.complaints.append(f"the generation of {chat.chat_id} fell to {row.generation}")
            self._generations[chat] = row.generation
        return self.complaints


def _began(run: Run) -> int:
    return run.began


def _is_in_use(row: Session, sandbox_id: str, now: datetime) -> bool:
    if row.state is SessionState.READY:
        return row.sandbox is not None and row.sandbox.sandbox_id == sandbox_id and row.expires_at > now + SKEW
    return row.state is SessionState.CREATING and row.is_claimed(now + SKEW)


SKEW = timedelta(seconds=5)
"""By how much a clock may be ahead or behind."""


@dataclass
class Stage:
    """All that the processes share, and those of them that have not ended."""

    rows: Rows
    now: datetime = START
    living: list[tuple[Process, datetime]] = field(default_factory=list)
    """With when they are ended from outside."""

    def __post_init__(self) -> None:
        """Sets up what lies behind the gates."""
        self.judge = Judge(self.rows.store, self.clock)
        self.sandboxes = Kernels(clock=self.clock, judge=self.judge)
        self._ids = count(1)

    def clock(self) -> datetime:
        """Returns the true time."""
        return self.now

    def budget(self, seconds: float) -> Budget:
        """Returns a budget of the stage's time; sleeping hands the turn on."""
        return Budget(self._seconds() + seconds, monotonic=self._seconds, sleep=lambda _: pause("sleep"))

    # ── Processes ───────────────────────────────────────────────────────────────────────────────────

    def call(self, chat: ChatKey, skew: timedelta, limit: timedelta, on_busy: OnBusy) -> Process:
        """Starts a call that runs code."""
        process = Process()
        sessions = self._sessions(process, skew)
        catalog, journal = MemoryFileCatalog(), MemoryJournal()
        hydrate = Hydrate(catalog, MemoryFileContents(), sessions.sandboxes, process)
        execute = Execute(sessions, hydrate, sessions.sandboxes, process, self._new_id, journal)
        code = self._new_id()
        self.judge.calls(code, chat, process)
        request = RunRequest(key=chat, code=code, file_ids=None, limit=limit, on_busy=on_busy)

        def work() -> RunReply:
            reply = execute(request)
            self.judge.answers(process, reply)
            return reply

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
                if error is not None and not isinstance(error, SandkeeperError | SandboxGone):
                    self.judge.complaints.append(f"an unexpected {error!r}")
        self.living = [(process, end) for process, end in self.living if not process.ended]

    def _start(self, process: Process, work: Callable[[], Any], lasts: timedelta) -> Process:
        process.submit(work)
        self.living.append((process, self.now + lasts))
        return process

    def _sessions(self, process: Process, skew: timedelta) -> Sessions:
        def hears(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], outcome: Any) -> None:
            if name == "kill":
                known = self.sandboxes.specs.get(args[0])
                self.judge.kills(args[0], known.metadata["claim"] if known else "")
            else:
                self.judge.hears(process, name, args, kwargs, outcome)

        store: Any = Gate(process, self.rows.store, STORE_STOPS, StoreUnavailable, hears)
        sandboxes: Any = Gate(process, self.sandboxes, SANDBOX_STOPS, SandboxUnavailable, hears)
        return Sessions(
            store=store,
            sandboxes=sandboxes,
            lifetimes=LIFETIMES,
            quota=SessionQuota(store, cap=20),
            stack=STACK,
            clock=lambda: self.now + skew,
            new_id=self._new_id,
        )

    # ── What happens to them ────────────────────────────────────────────────────────────────────────

    def time_passes(self, step: timedelta) -> None:
        """Moves the time on: sandboxes pause, and processes that take too long are ended."""
        self.now += step
        self.sandboxes.lapse()
        for process, end in self.living:
            if end <= self.now:
                process.kill()
        self.bury()

    def lose(self, chat: ChatKey) -> None:
        """Ends the chat's sandbox as E2B would, telling nobody."""
        sandbox_id = self._sandbox_of(chat)
        self.sandboxes.alive.pop(sandbox_id, None)
        self.sandboxes.paused.discard(sandbox_id)

    def pause(self, chat: ChatKey) -> None:
        """Pauses the chat's sandbox as E2B would, telling nobody."""
        sandbox_id = self._sandbox_of(chat)
        if sandbox_id in self.sandboxes.alive:
            self.sandboxes.paused.add(sandbox_id)

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
            again = self.call(chat, timedelta(0), timedelta(seconds=1), "reject")
            self.finish(again)
            self._complain(again.main.exception() is not None, f"{chat.chat_id} cannot be used again")
        for _ in range(2):
            self.time_passes(LEASES_OVER)
            self.finish(self.cleanup(timedelta(0)))
        self._complain(bool(self._unreachable()), "sandboxes live that no row points to")
        self.time_passes(ALL_EXPIRED)
        self.finish(self.cleanup(timedelta(0)))
        self._complain(bool(self.sandboxes.alive), "sandboxes outlive their sessions")
        self._complain(bool(self._doubled()) and not self.judge.rewritten, "a generation has had two sandboxes")
        return self.judge.looks()

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
