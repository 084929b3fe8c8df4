"""Run code for a chat: the use case that everything else serves.

    claim ─────────────► run ─────────────► release            a warm call: three round trips
      │                   ▲
      ├─► reconnect ──────┤                                     its sandbox is paused, or may be soon
      └─► create ──► activate ‖ hydrate                        a first call, or one after a loss

What is independent runs side by side: looking up the chat's files beside making its sandbox, making the sandbox
known beside filling it, moving E2B's deadline beside the run. A claimed session knows what files it has and that
new ones are waiting, so a warm call looks nothing up.

Code is never run twice. What is tried again is what surely has not started: see `SandboxGone`.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import timedelta

from sandkeeper.errors import SandboxUnavailable, SandkeeperError
from sandkeeper.model import (
    ChatKey,
    EndReason,
    FileRecord,
    NewId,
    RunEnd,
    RunOutcome,
    SandboxRef,
    Session,
    SessionState,
    SessionStatus,
)
from sandkeeper.ports import Journal, SandboxGone, SandboxProvider
from sandkeeper.services.budget import Budget
from sandkeeper.services.hydrate import Hydrate
from sandkeeper.services.sessions import OnBusy, Sessions, sandbox_of
from sandkeeper.services.stopwatch import Stopwatch, Timings

CALL_BUDGET_S = 28.0
"""Every call answers within this time: the gateway gives up at 30 s."""

INLINE_LIMIT = timedelta(seconds=25)
"""The longest run that fits into one call."""

RECONNECTS = 3
"""How often a call reconnects to one sandbox that says it is running but does not run code."""

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
class RunReply:
    """What came of a run, and of the session that it ran in."""

    execution_id: str
    outcome: RunOutcome
    session: Session
    status: SessionStatus
    sandbox: SandboxRef
    paths: Sequence[str]
    expires_in: timedelta
    limit: timedelta
    """What the run was given: what was asked for, or what waiting and creating had left of the call's time."""
    asked: timedelta
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


class _ClaimLost(Exception):
    """Another call took the session over while this one was making its sandbox."""


class _Call:
    """One execution of the use case. `session` is always the row as this call last saw it."""

    def __init__(self, use: Execute, request: RunRequest, budget: Budget) -> None:
        self.use = use
        self.request = request
        self.budget = budget
        self.run_id = use.new_id()
        self.watch = Stopwatch()
        self.added: dict[str, str] = {}
        """File id → path, of what this call has put into the sandbox."""
        self.seen: frozenset[str] = frozenset()
        """The fresh files that the session may forget: this call has put all of the chat's files there."""
        self.reconnects: Counter[str] = Counter()
        """Sandbox id → how often this call has reconnected to it, or tried."""
        self.gone: set[str] = set()
        """Ids of sandboxes that E2B knows no more."""
        self.resumed = False
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
                self.session = self._recovered()
            except _ClaimLost:
                self.session = self._acquire()
                self.watch.lap("claim")
            except Exception:
                # Whatever it was, the next call need not wait for the lease to run out.
                self._give_up()
                raise

    # ── Claim, and what to do when the sandbox is not there ─────────────────────────────────────────

    def _acquire(self) -> Session:
        return self.use.sessions.acquire(
            self.request.key,
            run_id=self.run_id,
            run_limit=self.request.limit,
            on_busy=self.request.on_busy,
            budget=self.budget,
        )

    def _recovered(self) -> Session:
        """Returns a session to run in after its sandbox was not there: resumed if it can be, else a new one.

        The code has not been started, so running it now cannot run it twice.
        """
        try:
            return self._resumed() or self._begun_again()
        except Exception:
            self._give_up()
            raise

    def _resumed(self) -> Session | None:
        """Returns the session with its sandbox running again; None if it is gone for good.

        That it is gone, only reconnecting can tell: a sandbox that does not answer may have paused just now.
        """
        sandbox = self.session.sandbox
        if sandbox is None or sandbox.sandbox_id in self.gone:
            return None
        if self.reconnects[sandbox.sandbox_id] >= RECONNECTS:
            raise SandboxUnavailable("the sandbox is there, but cannot be reached; try again, or end the session")
        try:
            return self._reconnect(resumed=True)
        except SandboxGone:
            return None

    def _reconnect(self, *, resumed: bool) -> Session:
        sandbox_id = sandbox_of(self.session).sandbox_id
        self.reconnects[sandbox_id] += 1
        try:
            session = self.use.sessions.reconnect(self.session, self.request.limit, self.budget)
        except SandboxGone:
            self.gone.add(sandbox_id)
            raise
        self.resumed = self.resumed or resumed
        self.watch.lap("connect")
        if resumed:
            self.use.journal.note("session.resumed", generation=session.generation)
        return session

    def _begun_again(self) -> Session:
        if self.replaced:
            raise SandboxUnavailable("two sandboxes in a row vanished before the code could start; try again")
        self.replaced = True
        begun = self.use.sessions.begin(
            self.request.key,
            self.session,
            run_id=self.run_id,
            run_limit=self.request.limit,
            reason=EndReason.SANDBOX_LOST,
        )
        session = begun or self._acquire()
        self.resumed = False
        self.watch.lap("claim")
        return session

    def _give_up(self) -> None:
        """Gives the session back without having run anything. Failing at that costs the lease's time, no more."""
        try:
            if self.session.state is SessionState.CREATING:
                self.use.sessions.abandon(self.session)
            else:
                seen = replace(self.session, fresh_files=self.seen)
                self.use.sessions.release(seen, ran=False, hydrated=self.added)
        except SandkeeperError as error:
            self.use.journal.note("session.release_failed", error=type(error).__name__)

    # ── Sandbox and files ───────────────────────────────────────────────────────────────────────────

    def _sandbox(self) -> SandboxRef:
        """Returns the chat's sandbox, running and with the call's files in it."""
        self.added, self.seen = {}, frozenset()
        # As of before the files are looked up: what is announced after that stays fresh.
        fresh = self.session.fresh_files
        sandbox = self._new_sandbox() if self.session.sandbox is None else self._found(self.session.sandbox)
        if self.named is None:
            self.seen = fresh
        return sandbox

    def _found(self, sandbox: SandboxRef) -> SandboxRef:
        sessions = self.use.sessions
        if not self.reconnects[sandbox.sandbox_id] and not sessions.covers(self.session, self.request.limit):
            self.session = self._reconnect(resumed=sessions.is_paused(self.session))
            sandbox = sandbox_of(self.session)
        self._hydrate(sandbox, self._missing())
        return sandbox

    def _missing(self) -> Sequence[FileRecord]:
        """Returns what a sandbox that is there already still lacks for this call."""
        if self.named is None:
            return self.use.hydrate.missing(self.session)
        return [file for file in self.named if file.file_id not in self.session.hydrated]

    def _new_sandbox(self) -> SandboxRef:
        begun, beside = self.session, self.use.beside
        lookup = beside.submit(self._all_files)
        pointed = beside.submit(self.use.sessions.store.point, begun)
        sandbox, pauses_at = self.use.sessions.create_sandbox(begun, self.budget)
        self.watch.lap("connect")
        pointed.result()  # before anybody can find the sandbox in the row
        activation = beside.submit(self.use.sessions.activate, begun, sandbox, pauses_at)
        if begun.predecessor_id is not None:
            beside.submit(self._kill, begun.predecessor_id)
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
        except Exception as error:  # noqa: BLE001 - it is nobody's answer
            self.use.journal.note("sandbox.kill_failed", error=type(error).__name__)

    # ── Run and release ─────────────────────────────────────────────────────────────────────────────

    def _run_in(self, sandbox: SandboxRef) -> RunReply:
        limit = min(self.request.limit, timedelta(seconds=max(MARGIN_S, self.budget.left_s() - MARGIN_S)))
        self._keep_running(limit)
        self.use.sessions.keep(self.session, limit)
        outcome = self.use.sandboxes.run(sandbox, self.request.code, timeout=limit)
        self.watch.lap("run")
        if outcome.end is RunEnd.KERNEL_DIED:
            self._note_restart()
        claimed = self.session
        self.session = replace(claimed, execution_count=_execution_count(claimed, outcome))
        expires_in = self._release()
        self.watch.lap("release")
        if _is_another_kernel(claimed, outcome):
            self.use.journal.note("session.kernel_replaced", generation=claimed.generation)
            self.session = replace(self.session, restarts=self.session.restarts_told + 1)
        timings, status = self.watch.timings(), self._status()
        self.use.journal.note("run.ended", end=outcome.end, status=status, ms=timings.total_ms)
        return RunReply(
            execution_id=self.run_id,
            outcome=outcome,
            session=self.session,
            status=status,
            sandbox=sandbox,
            paths=self._paths(),
            expires_in=expires_in,
            limit=limit,
            asked=self.request.limit,
            timings=timings,
        )

    def _status(self) -> SessionStatus:
        return "resumed" if self.resumed and self.session.status == "reused" else self.session.status

    def _keep_running(self, limit: timedelta) -> None:
        """Moves E2B's deadline where the sandbox would pause too soon: beside the run, unless during it."""
        sessions = self.use.sessions
        if not sessions.covers(self.session, limit):
            sessions.extend(self.session, limit)
            self.watch.lap("connect")
        elif sessions.is_worth_extending(self.session, limit):
            self.use.beside.submit(self._extend, self.session, limit)

    def _extend(self, session: Session, limit: timedelta) -> None:
        try:
            self.use.sessions.extend(session, limit)
        except Exception as error:  # noqa: BLE001 - it is nobody's answer
            self.use.journal.note("sandbox.extend_failed", error=type(error).__name__)

    def _note_restart(self) -> None:
        """Lets the next run's caller know that variables are gone: before it can begin."""
        try:
            self.use.sessions.store.note_restart(self.request.key, now=self.use.sessions.clock())
        except SandkeeperError as error:
            self.use.journal.note("session.restart_not_noted", error=type(error).__name__)

    def _release(self) -> timedelta:
        """Gives the session back. The run has ended, so nothing here may keep its result from the caller."""
        try:
            return self.use.sessions.release(
                replace(self.session, fresh_files=self.seen), ran=True, hydrated=self.added
            )
        except SandkeeperError as error:
            self.use.journal.note("session.release_failed", error=type(error).__name__)
            return self.session.expires_at - self.use.sessions.clock()


def _execution_count(session: Session, outcome: RunOutcome) -> int:
    """Returns from which number on the next run is known to be in the same kernel."""
    if outcome.execution_count is not None:
        return outcome.execution_count
    # A run that was cut off tells no number. In a kernel of which its caller was told, there is none to go by.
    return session.execution_count if session.reset_reason is None else 0


def _is_another_kernel(session: Session, outcome: RunOutcome) -> bool:
    """Returns whether the kernel was replaced since the last run, and nobody knew.

    A kernel that ends between two runs is replaced by the interpreter without a word: an interrupt that comes
    just when code has ended can be the cause.
    """
    count = outcome.execution_count
    return count is not None and count <= session.execution_count and session.reset_reason is None
