"""See runs to their end: whoever does so first records the run and gives its session back, exactly once.

The files that it leaves behind are kept first: see `artifacts.py`.

A run goes on in its sandbox whether anybody listens or not, and keeps its session's lease until somebody has seen
its end: the call that began it, a later one that follows it or wants the session, or the tick that ends it.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from sandkeeper.model import ChatKey, Clock, EndReason, Lifetimes, RunEnd, SandboxRef, Session
from sandkeeper.ports import Journal, RunLog, RunUnknown, SandboxGone, SandboxProvider, SessionStore
from sandkeeper.runs import Execution
from sandkeeper.services.artifacts import ENOUGH, Artifacts, is_pending
from sandkeeper.services.budget import CALL_BUDGET_S

WAKING = timedelta(minutes=2)
"""For how long a sandbox is woken of which only the last run is to be read."""
WAKING_WITHIN = timedelta(seconds=10)
KEEPING = timedelta(seconds=6)
"""How long a call that has waited for a run may take to copy its files."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Looks at runs in their sandboxes, and writes down what has ended."""

    store: SessionStore
    sandboxes: SandboxProvider
    runs: RunLog
    artifacts: Artifacts
    lifetimes: Lifetimes
    clock: Clock
    journal: Journal

    def look(self, key: ChatKey, sandbox: SandboxRef, run_id: str, wait: timedelta) -> Execution | None:
        """Returns the run as its sandbox tells it, once it has ended or after this time; None if it has none such.

        Raises `SandboxGone`, `SandboxUnavailable`.
        """
        try:
            events = [*self.sandboxes.follow(sandbox, run_id, after=0, wait=wait)]
        except RunUnknown:
            return None
        return Execution.of(key, run_id, events) if events else None

    def settle(self, session: Session, wait: timedelta) -> bool:
        """Ends the lease of a session that no call attends to, if its run is over; waits for that for some time.

        A paused sandbox is resumed for that: what ended in it, and what it took to the pause, is to be told.
        Returns whether the session may be free now. Raises `SandboxUnavailable` where nobody can tell.
        """
        assert session.run_id is not None, "only a session in use is to be settled"  # noqa: S101
        assert session.sandbox is not None, "only a ready session has a lease without a call"  # noqa: S101
        try:
            execution, sandbox = self._woken(session.key, session.sandbox, session.run_id, wait)
        except SandboxGone:  # for good: whoever uses the session next will see
            self._give_back(session, ran=False)
            return True
        if execution is None:  # its call died before it had asked for the run
            self._give_back(session, ran=False)
            return True
        if execution.end is None:
            return False
        kept = self.conclude(session, execution, sandbox, is_told=self._was_left(session))
        return not is_pending(kept)

    def conclude(
        self,
        session: Session,
        execution: Execution,
        sandbox: SandboxRef | None = None,
        *,
        is_told: bool = False,
        within: timedelta = KEEPING,
    ) -> Execution:
        """Records a run that has ended and, if it has the session's lease, gives the session back.

        Returns it with what became of its files, which are copied from the `sandbox` in this time. If that does not
        suffice nothing is recorded, and whoever comes next goes on.

        `is_told`: its caller is told now, or can come back to be told; else what it should hear the next one does.
        In this order: whoever dies in between leaves the lease, and with it the run to be found. While its own call
        attends to it, giving back is that call's business, which knows what files it has put into the sandbox.
        """
        if sandbox is not None:
            execution = self.artifacts.keep(execution, sandbox, within, again=True)
        if is_pending(execution):
            return execution
        self.record(execution)
        if session.run_id != execution.execution_id or session.is_attended(self.clock()):
            return execution
        if is_told or execution.reset_reason is None:
            self._give_back(session, ran=True)
        elif session.run_count:
            self._give_back(session, ran=True, untold=execution.reset_reason)
        else:  # nobody who is still there has been told of the new sandbox
            self._give_back(session, ran=False)
        return execution

    def record(self, execution: Execution) -> None:
        """Records a run that has ended, unless somebody else has."""
        if self.runs.finish(execution):
            assert execution.end is not None, "only what has ended is recorded"  # noqa: S101
            self.journal.note("run.recorded", end=execution.end, ms=execution.run_ms)

    def last_words(self, session: Session, end: RunEnd) -> None:
        """Records the run of a session whose sandbox is about to be killed: with this `end`, if it goes on.

        Whatever fails at that is noted, and keeps nobody from killing the sandbox.
        """
        if session.run_id is None or session.sandbox is None:
            return
        try:
            execution, sandbox = self._woken(session.key, session.sandbox, session.run_id, timedelta(0))
            if execution is None:
                return
            if execution.end is None:
                execution = execution.ended(end, self.clock())
            self.record(self.artifacts.keep(execution, sandbox, ENOUGH, again=True))
        except Exception as error:  # noqa: BLE001 - whatever it was, the sandbox is not to live on for it
            self.journal.note("run.not_collected", error=type(error).__name__)

    def _woken(
        self, key: ChatKey, sandbox: SandboxRef, run_id: str, wait: timedelta
    ) -> tuple[Execution | None, SandboxRef]:
        """Returns what the sandbox tells of the run, also if it has to be resumed for that."""
        try:
            return self.look(key, sandbox, run_id, wait), sandbox
        except SandboxGone:
            awake = self.sandboxes.connect(sandbox.sandbox_id, WAKING, within=WAKING_WITHIN)
            return self.look(key, awake, run_id, wait), awake

    def _was_left(self, session: Session) -> bool:
        """Returns whether the run's call has answered before the run's end: then its caller has its id.

        That there is a record of the run tells less: its call may have died right after it had written that.
        """
        attended = timedelta(seconds=CALL_BUDGET_S) + self.lifetimes.lease_margin
        return session.run_until is not None and session.run_until < session.last_used_at + attended

    def _give_back(self, session: Session, *, ran: bool, untold: EndReason | None = None) -> None:
        now = self.clock()
        self.store.release(
            replace(session, fresh_files=frozenset(), untold=untold),
            now=now,
            ran=ran,
            expires_at=now + self.lifetimes.session_timeout,
            hydrated={},
        )
