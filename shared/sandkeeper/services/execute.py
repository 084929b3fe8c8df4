"""Run code for a chat: the use case that everything else serves.

    claim ─────────────► run ─────────────► release            a warm call: three round trips
      │                   ▲
      └─► create ──► activate ‖ hydrate                        a first call, or one after a loss

What is independent runs side by side: looking up the chat's files beside making its sandbox, making the sandbox
known beside filling it, moving E2B's deadline beside the run. A claimed session knows what files it has and that
new ones are waiting, so a warm call looks nothing up.
"""

import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sandkeeper.errors import SandboxUnavailable, SandkeeperError
from sandkeeper.model import (
    ChatKey,
    EndReason,
    FileRecord,
    NewId,
    RunOutcome,
    SandboxRef,
    Session,
    SessionState,
)
from sandkeeper.ports import Journal, SandboxGone, SandboxProvider
from sandkeeper.services.budget import Budget
from sandkeeper.services.hydrate import Hydrate
from sandkeeper.services.sessions import OnBusy, Sessions

CALL_BUDGET_S = 28.0
"""Every call answers within this time: the gateway gives up at 30 s."""

INLINE_LIMIT = timedelta(seconds=25)
"""The longest run that fits into one call."""

MARGIN_S = 1.0
"""What a run leaves of the call's budget: enough to give the session back and to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What a caller wants to be run. `file_ids` None means all of the chat's files."""

    key: ChatKey
    code: str
    file_ids: Sequence[str] | None
    limit: timedelta
    on_busy: OnBusy


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long each step of a call took, in milliseconds."""

    claim_ms: int
    connect_ms: int
    files_ms: int
    run_ms: int
    release_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReply:
    """What came of a run, and of the session that it ran in."""

    execution_id: str
    outcome: RunOutcome
    session: Session
    sandbox: SandboxRef
    paths: Sequence[str]
    expires_in: timedelta
    limit: timedelta
    timings: Timings


@dataclass(frozen=True, slots=True)
class Execute:
    """Runs code in the chat's sandbox, which is found, made, filled and given back on the way."""

    sessions: Sessions
    hydrate: Hydrate
    sandboxes: SandboxProvider
    beside: Executor
    new_id: NewId
    journal: Journal

    def __call__(self, request: RunRequest) -> RunReply:
        """Returns what came of the run. When it raises, no code was run and the session is free again."""
        return _Call(self, request, Budget.of(CALL_BUDGET_S)).answer()


@dataclass(slots=True)
class _Stopwatch:
    """Splits one stretch of time into named laps, in milliseconds."""

    started: float = field(default_factory=time.perf_counter)
    laps: dict[str, float] = field(default_factory=dict)
    lapped: float = field(default_factory=time.perf_counter)

    def lap(self, name: str) -> None:
        """Adds the time since the last lap to `name`."""
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + (now - self.lapped) * 1000
        self.lapped = now

    def timings(self) -> Timings:
        """Returns all laps so far. A step that did not take place took no time."""
        names = ("claim", "connect", "files", "run", "release")
        laps = {f"{name}_ms": round(self.laps.get(name, 0.0)) for name in names}
        return Timings(**laps, total_ms=round((time.perf_counter() - self.started) * 1000))


class _ClaimLost(Exception):
    """Another call took the session over while this one was making its sandbox."""


class _Call:
    """One execution of the use case. `session` is always the row as this call last saw it."""

    def __init__(self, use: Execute, request: RunRequest, budget: Budget) -> None:
        self.use = use
        self.request = request
        self.budget = budget
        self.run_id = use.new_id()
        self.watch = _Stopwatch()
        self.added: dict[str, str] = {}
        """File id → path, of what this call has put into the sandbox."""
        self.seen: frozenset[str] = frozenset()
        """The fresh files that the session may forget: this call has put all of the chat's files there."""
        self.replaced = False

    def answer(self) -> RunReply:
        """Returns what came of the run."""
        key, file_ids = self.request.key, self.request.file_ids
        self.named = None if file_ids is None else self.use.hydrate.named(key, file_ids)
        self.session = self._acquire()
        self.watch.lap("claim")
        while True:
            try:
                return self._run_in(self._sandbox())
            except SandboxGone:
                self.session = self._begin_again()
            except _ClaimLost:
                self.session = self._acquire()
            self.watch.lap("claim")

    # ── Claim ───────────────────────────────────────────────────────────────────────────────────────

    def _acquire(self) -> Session:
        return self.use.sessions.acquire(
            self.request.key,
            run_id=self.run_id,
            run_limit=self.request.limit,
            on_busy=self.request.on_busy,
            budget=self.budget,
        )

    def _begin_again(self) -> Session:
        """Replaces a sandbox that vanished before the code started: running it cannot run it twice."""
        if self.replaced:
            self._give_up(self.session)
            raise SandboxUnavailable("two sandboxes in a row vanished before the code could start; try again")
        self.replaced = True
        begun = self.use.sessions.begin(
            self.request.key,
            self.session,
            run_id=self.run_id,
            run_limit=self.request.limit,
            reason=EndReason.SANDBOX_LOST,
        )
        return begun or self._acquire()

    def _give_up(self, session: Session) -> None:
        """Gives the session back without having run anything. Failing at that costs the lease's time, no more."""
        try:
            if session.state is SessionState.CREATING:
                self.use.sessions.abandon(session)
            else:
                seen = replace(session, fresh_files=self.seen)
                self.use.sessions.release(seen, ran=False, sandbox_until=None, hydrated=self.added)
        except SandkeeperError as error:
            self.use.journal.note("session.release_failed", error=type(error).__name__)

    # ── Sandbox and files ───────────────────────────────────────────────────────────────────────────

    def _sandbox(self) -> SandboxRef:
        """Returns the chat's sandbox with the call's files in it, making it first if need be."""
        self.added, self.seen = {}, frozenset()
        # As of before the files are looked up: what is announced after that stays fresh.
        fresh = self.session.fresh_files
        try:
            sandbox = self._found(self.session.sandbox) if self.session.sandbox else self._new_sandbox()
        except SandkeeperError:
            self._give_up(self.session)
            raise
        if self.named is None:
            self.seen = fresh
        return sandbox

    def _found(self, sandbox: SandboxRef) -> SandboxRef:
        self._hydrate(sandbox, self._missing())
        return sandbox

    def _missing(self) -> Sequence[FileRecord]:
        """Returns what a sandbox that is there already still lacks for this call."""
        if self.named is None:
            return self.use.hydrate.missing(self.session)
        return [file for file in self.named if file.file_id not in self.session.hydrated]

    def _new_sandbox(self) -> SandboxRef:
        lookup = self.use.beside.submit(self._all_files)
        sandbox = self.use.sessions.create_sandbox(self.session)
        self.watch.lap("connect")
        activation = self.use.beside.submit(self.use.sessions.activate, self.session, sandbox)
        if self.session.predecessor_id is not None:
            self.use.beside.submit(self._kill, self.session.predecessor_id)
        try:
            self._hydrate(sandbox, lookup.result())
        finally:
            self._adopt(activation.result())
        return sandbox

    def _all_files(self) -> Sequence[FileRecord]:
        """Returns what a new sandbox has to have. Asked once the session has begun, so nothing new is missed."""
        return self.use.hydrate.ready(self.request.key) if self.named is None else self.named

    def _adopt(self, activated: Session | None) -> None:
        if activated is None:
            raise _ClaimLost
        self.use.journal.note("session.created", status=activated.status, generation=activated.generation)
        self.session = activated

    def _hydrate(self, sandbox: SandboxRef, files: Sequence[FileRecord]) -> None:
        self.use.hydrate.fill(sandbox, files)
        self.added = {file.file_id: file.path for file in files}
        self.watch.lap("files")

    def _paths(self) -> Sequence[str]:
        """Returns where the call's files are: the named ones, else all that the sandbox has."""
        if self.named is not None:
            return [file.path for file in self.named]
        return [*{**self.session.hydrated, **self.added}.values()]

    def _kill(self, sandbox_id: str) -> None:
        try:
            self.use.sandboxes.kill(sandbox_id)
        except SandkeeperError as error:
            self.use.journal.note("sandbox.kill_failed", error=type(error).__name__)

    # ── Run and release ─────────────────────────────────────────────────────────────────────────────

    def _run_in(self, sandbox: SandboxRef) -> RunReply:
        extension = self._extend()
        limit = min(self.request.limit, timedelta(seconds=max(MARGIN_S, self.budget.left_s() - MARGIN_S)))
        try:
            outcome = self.use.sandboxes.run(sandbox, self.request.code, timeout=limit)
        except SandkeeperError:
            self._give_up(self.session)
            raise
        self.watch.lap("run")
        expires_in = self._release(extension)
        self.watch.lap("release")
        timings = self.watch.timings()
        self.use.journal.note("run.ended", end=outcome.end, status=self.session.status, ms=timings.total_ms)
        return RunReply(
            execution_id=self.run_id,
            outcome=outcome,
            session=self.session,
            sandbox=sandbox,
            paths=self._paths(),
            expires_in=expires_in,
            limit=limit,
            timings=timings,
        )

    def _extend(self) -> "Future[datetime] | None":
        """Moves E2B's deadline beside the run, where the session would outlive it."""
        if not self.use.sessions.needs_extension(self.session):
            return None
        return self.use.beside.submit(self.use.sessions.extend, self.session)

    def _release(self, extension: "Future[datetime] | None") -> timedelta:
        """Gives the session back. The run has ended, so nothing here may keep its result from the caller."""
        sandbox_until = None
        try:
            sandbox_until = extension.result() if extension else None
        except (SandkeeperError, SandboxGone) as error:
            self.use.journal.note("sandbox.extend_failed", error=type(error).__name__)
        try:
            return self.use.sessions.release(
                replace(self.session, fresh_files=self.seen),
                ran=True,
                sandbox_until=sandbox_until,
                hydrated=self.added,
            )
        except SandkeeperError as error:
            self.use.journal.note("session.release_failed", error=type(error).__name__)
            return self.session.expires_at - self.use.sessions.clock()
