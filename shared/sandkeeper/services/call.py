"""One call that runs code: from the claim of its session to the answer.

Nothing is kept between calls; what a call has to remember while it goes on is here.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sandkeeper.errors import SandboxUnavailable, SandkeeperError
from sandkeeper.model import EndReason, FileRecord, RunEnd, SandboxRef, Session, SessionState, SessionStatus
from sandkeeper.ports import RunLost, SandboxGone
from sandkeeper.runs import Execution, RunContext, RunEvent, RunOrder
from sandkeeper.services.artifacts import is_pending
from sandkeeper.services.budget import CALL_BUDGET_S, Budget
from sandkeeper.services.requests import ANSWER_S, INTERRUPT_S, LEAVE_S, RunReply, RunRequest
from sandkeeper.services.sessions import sandbox_of
from sandkeeper.services.stopwatch import Stopwatch

if TYPE_CHECKING:
    from sandkeeper.services.execute import Execute

RECONNECTS = 3
"""How often a call reconnects to one sandbox that says it is running but does not run code."""


class _ClaimLost(Exception):
    """Another call took the session over while this one was making its sandbox."""


class _Lost(Exception):
    """The sandbox is gone in which the run may have been started."""


class _Found(Exception):
    """A call before this one has brought the run to its end."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution.execution_id)
        self.execution = execution


class Call:
    """One execution of the use case. `session` is always the row as this call last saw it."""

    def __init__(self, use: "Execute", request: RunRequest, run_id: str, budget: Budget) -> None:
        self.use = use
        self.request = request
        self.budget = budget
        self.run_id = run_id
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
        self.opened: Execution | None = None
        """The run, as the log has it: there before the run is asked for where a caller may come back for it."""
        self.may_have_started = False
        self.heard: Sequence[RunEvent] = ()
        """The run's events as far as they have come, should its sandbox be lost."""

    def answer(self) -> RunReply:
        """Returns what came of the run, or the run that goes on."""
        key, file_ids = self.request.key, self.request.file_ids
        self.named = None if file_ids is None else self.use.hydrate.named(key, file_ids)
        self.session = self._acquire()
        self.watch.lap("claim")
        while True:
            try:
                return self._run_in(self._sandbox())
            except SandboxGone as gone:
                self.may_have_started = self.may_have_started or isinstance(gone, RunLost)
                try:
                    self.session = self._recovered()
                except _Lost:
                    return self._lost()
                except Exception as error:  # noqa: BLE001 - raised again unless there is an answer
                    return self._failed(error)
            except _ClaimLost:
                self.session = self._acquire()
                self.watch.lap("claim")
            except _Found as found:
                self._give_up()
                expires_in = self.use.executions.expires_in(found.execution)
                return self._reply(found.execution, expires_in, is_repeated=True)
            except Exception as error:  # noqa: BLE001 - as above
                return self._failed(error)

    def _failed(self, error: Exception) -> RunReply:
        """Raises the error; unless the code may have been started, which then has to be found out by and by."""
        if self.may_have_started:
            return self._left(self._unheard(self.order))
        # Whatever it was, the next call need not wait for the lease to run out.
        self._quietly("run.not_withdrawn", self._withdraw)
        self._give_up()
        raise error

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

        Code that may have been started in a sandbox that is gone is not run in another one: then `_Lost` is raised.
        """
        resumed = self._resumed()
        if resumed is None and self.may_have_started:
            raise _Lost
        return resumed or self._begun_again()

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
        preparation = beside.submit(self._quietly, "sandbox.not_prepared", self.use.sandboxes.prepare, sandbox)
        pointed.result()  # before anybody can find the sandbox in the row
        activation = beside.submit(self.use.sessions.activate, begun, sandbox, pauses_at)
        if begun.predecessor_id is not None:
            beside.submit(self._quietly, "sandbox.kill_failed", self.use.sandboxes.kill, begun.predecessor_id)
        try:
            self._hydrate(sandbox, lookup.result())
        finally:
            self._adopt(activation.result())
        preparation.result()
        self.watch.lap("connect")
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
        return [*dict.fromkeys({**self.session.hydrated, **self.added}.values())]

    # ── Run, and give the session back ──────────────────────────────────────────────────────────────

    def _run_in(self, sandbox: SandboxRef) -> RunReply:
        limit = self._limit()
        self._keep_running(limit)
        order = self.order = RunOrder(
            run_id=self.run_id, code=self.request.code, context=self._context(sandbox, limit)
        )
        if self.request.is_awaited:
            self._open(order)
        events: list[RunEvent] = []
        for event in self.use.sandboxes.run(sandbox, order, wait=self._wait()):
            events.append(event)
            self.heard = events
        self.watch.lap("run")
        execution = Execution.of(self.request.key, self.run_id, events) if events else self._unheard(order)
        if execution.end is None:
            return self._left(execution)
        left = timedelta(seconds=max(0.0, self.budget.left_s() - ANSWER_S))
        execution = self.use.sessions.collect.artifacts.keep(execution, sandbox, left, again=False)
        self.watch.lap("files")
        return self._left(execution) if is_pending(execution) else self._ended(execution)

    def _limit(self) -> timedelta:
        """Returns the limit of the code: less than was asked for if it must end within this call."""
        if self.request.mode != "inline":
            return self.request.limit
        left_s = self.budget.left_s() - ANSWER_S - INTERRUPT_S
        return min(self.request.limit, timedelta(seconds=max(1.0, left_s)))

    def _wait(self) -> timedelta:
        """Returns for how long this call listens to its run."""
        reserve_s = {"async": CALL_BUDGET_S, "auto": LEAVE_S, "inline": ANSWER_S}[self.request.mode]
        return timedelta(seconds=max(0.0, self.budget.left_s() - reserve_s))

    def _context(self, sandbox: SandboxRef, limit: timedelta) -> RunContext:
        timings, session = self.watch.timings(), self.session
        return RunContext(
            claim_id=session.claim_id,
            generation=session.generation,
            sandbox_id=sandbox.sandbox_id,
            status=self._status(),
            reason=session.reset_reason,
            paths=self._paths(),
            limit_ms=_millis(limit),
            asked_ms=_millis(self.request.limit),
            claim_ms=timings.claim_ms,
            connect_ms=timings.connect_ms,
            files_ms=timings.files_ms,
            number=session.run_count + 1,
        )

    def _status(self) -> SessionStatus:
        return "resumed" if self.resumed and self.session.status == "reused" else self.session.status

    def _unheard(self, order: RunOrder) -> Execution:
        """Returns a run of which nothing has been heard: it may have begun, or begin yet."""
        return Execution(
            key=self.request.key,
            execution_id=self.run_id,
            code=order.code,
            context=order.context,
            created_at=self.use.sessions.clock(),
        )

    def _open(self, order: RunOrder) -> None:
        """Lets the run be known before it is asked for. Raises `_Found` when it has ended."""
        self._withdraw()
        opened = self._unheard(order)
        if not self.use.runs.open(opened):
            # By a call before this one, which may have asked for the run already, in this sandbox or another.
            found = self.use.runs.get(self.request.key, self.run_id)
            if found is not None and found.context.claim_id != self.session.claim_id:
                found = self.use.executions.get(self.request.key, self.run_id)
            if found is not None and found.end is not None:
                raise _Found(found)
            self.may_have_started = True
        self.opened = opened

    def _withdraw(self) -> None:
        """Takes a run back that this call has let be known, and that surely has not been started there."""
        if self.opened is not None and not self.may_have_started:
            self.use.runs.withdraw(self.opened)
            self.opened = None

    def _keep_running(self, limit: timedelta) -> None:
        """Moves E2B's deadline where the sandbox would pause too soon: beside the run, unless during it."""
        sessions = self.use.sessions
        if not sessions.covers(self.session, limit):
            self.session = sessions.extend(self.session, limit)
            self.watch.lap("connect")
        elif sessions.is_worth_extending(self.session, limit):
            self.use.beside.submit(self._quietly, "sandbox.extend_failed", sessions.extend, self.session, limit)

    def _ended(self, execution: Execution) -> RunReply:
        """Records the run and gives the session back. Nothing here may keep the result from the caller."""
        use = self.use
        self._quietly("sandbox.extend_failed", use.sessions.shorten, self.session)
        recording = use.beside.submit(self._quietly, "run.not_recorded", use.runs.finish, execution)
        if self.opened is not None:  # somebody may come back for it, and must find it once the lease is gone
            recording.result()
        expires_in = self._release()
        recording.result()
        self.watch.lap("release")
        return self._reply(execution, expires_in)

    def _lost(self) -> RunReply:
        """Tells what became of a run whose sandbox is gone: whoever ended that may have seen it, else nobody."""
        known, runs = self.opened or self._unheard(self.order), self.use.runs
        if self.heard:
            known = Execution.of(self.request.key, self.run_id, self.heard)
        lost = known.ended(RunEnd.SANDBOX_LOST, self.use.sessions.clock())
        try:
            recorded = None if runs.finish(lost) else runs.get(self.request.key, self.run_id)
        except SandkeeperError:
            recorded = None
        return self._ended(recorded or lost)

    def _left(self, execution: Execution) -> RunReply:
        """Leaves a run that goes on, or of which files are still to be kept, to whoever asks for it."""
        use, session = self.use, replace(self.session, fresh_files=self.seen)
        opening = use.beside.submit(self._quietly, "run.not_opened", use.runs.open, execution)
        self._quietly("session.release_failed", use.sessions.leave, session, self.added)
        opening.result()
        self.watch.lap("release")
        return self._reply(execution, self.session.expires_at - use.sessions.clock())

    def _release(self) -> timedelta:
        sessions = self.use.sessions
        session = replace(self.session, fresh_files=self.seen, untold=None)
        self._quietly("session.release_failed", sessions.release, session, ran=True, hydrated=self.added)
        return sessions.lifetimes.session_timeout

    def _reply(self, execution: Execution, expires_in: timedelta, *, is_repeated: bool = False) -> RunReply:
        timings, status = self.watch.timings(), execution.context.status
        if execution.end is None:
            self.use.journal.note("run.left", status=status, ms=timings.total_ms)
        else:
            self.use.journal.note("run.ended", end=execution.end, status=status, ms=timings.total_ms)
        return RunReply(execution=execution, expires_in=expires_in, timings=timings, is_repeated=is_repeated)

    def _quietly(self, event: str, work: Callable[..., object], *args: Any, **more: Any) -> None:
        """Does what may fail without harm to the answer; then `event` is noted."""
        try:
            work(*args, **more)
        except Exception as error:  # noqa: BLE001 - it is nobody's answer
            self.use.journal.note(event, error=type(error).__name__)


def _millis(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
