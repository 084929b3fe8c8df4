"""Look at a run from anywhere: its state, its events, its result; or stop it.

What has ended is in the log. What goes on is asked of its sandbox; and what is in neither is lost.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sandkeeper.errors import ArtifactNotFound, ExecutionNotFound, SessionBusy
from sandkeeper.model import Artifact, ChatKey, RunEnd, Session, SessionState
from sandkeeper.ports import RunLog, RunUnknown, SandboxGone
from sandkeeper.runs import Ended, Execution, RunEvent
from sandkeeper.services.artifacts import execution_of
from sandkeeper.services.budget import CALL_BUDGET_S, Budget
from sandkeeper.services.collect import KEEPING, Collect
from sandkeeper.services.requests import ANSWER_S
from sandkeeper.services.sessions import Sessions, sandbox_of

RESUME_S = 15.0
"""How long a paused sandbox may take to be resumed, so that a run in it can be read."""

NO_TIME = timedelta(0)


@dataclass(frozen=True, slots=True)
class Executions:
    """The runs of chats, wherever they are known."""

    sessions: Sessions
    collect: Collect
    runs: RunLog

    def get(self, key: ChatKey, execution_id: str, *, wait: timedelta = NO_TIME) -> Execution:
        """Returns the run, once it has ended or after this time.

        Raises `ExecutionNotFound`, and `SandboxUnavailable` where its sandbox does not answer.
        """
        return self._get(key, execution_id, wait)

    def _get(
        self, key: ChatKey, execution_id: str, wait: timedelta, *, within: timedelta | None = None
    ) -> Execution:
        recorded = self.runs.get(key, execution_id)
        if recorded is not None and recorded.end is not None:
            return recorded
        session = self._session_of(key, execution_id, recorded)
        told = None if session is None else self._told(session, execution_id, wait, within=within)
        if told is not None:
            return told
        if recorded is None:
            raise ExecutionNotFound(f"chat {key.chat_id!r} has no execution {execution_id!r}")
        if session is not None and self._is_about_to_begin(session, execution_id):
            return recorded
        return self._lost(session, recorded)

    def find(self, key: ChatKey, execution_id: str, budget: Budget, *, reserve_s: float) -> Execution | None:
        """Returns a run that was asked for before, once it has ended or the budget is used up but for this reserve.

        None when it has not begun, and nobody is about to begin it. Raises `SessionBusy` if somebody is too long.
        """
        attempt = 0
        while True:
            recorded = self.runs.get(key, execution_id)
            if recorded is not None and recorded.end is not None:
                return recorded
            row = self.sessions.store.read(key)
            if row is None or row.run_id != execution_id:
                # It was opened before it was asked for: without a record, it never was.
                return None if recorded is None else self.get(key, execution_id, wait=_left(budget, reserve_s))
            told = self._told(row, execution_id, _left(budget, reserve_s)) if _has_sandbox(row) else None
            if told is not None or not self._is_about_to_begin(row, execution_id):
                return told
            if not budget.pause(attempt, reserve_s=reserve_s):
                raise SessionBusy(f"another call with this Idempotency-Key is preparing chat {key.chat_id!r}")
            attempt += 1

    def follow(self, known: Execution, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """Yields the run's events behind the number `after`, as they come: to its end, or for this time.

        Whoever follows a run to its end has recorded it. Raises `SandboxUnavailable`.
        """
        told = after
        if known.end is None and (session := self._session_of(known.key, known.execution_id, known)) is not None:
            try:
                for event in self._followed(session, known.execution_id, after, wait):
                    told = event.number
                    yield event
            except (SandboxGone, RunUnknown):
                known = self.get(known.key, known.execution_id)
        elif known.end is None:
            known = self.get(known.key, known.execution_id)
        if known.end is not None:
            yield from (event for event in known.events if event.number > told)

    def _followed(self, session: Session, execution_id: str, after: int, wait: timedelta) -> Iterator[RunEvent]:
        sandbox = sandbox_of(session)
        for event in self.sessions.sandboxes.follow(sandbox, execution_id, after=after, wait=wait):
            if isinstance(event.what, Ended):
                self._told(session, execution_id, NO_TIME, within=KEEPING)
            yield event

    def cancel(self, key: ChatKey, execution_id: str) -> Execution:
        """Stops the run, and returns it once it has ended; one that has ended stays as it is.

        Raises `ExecutionNotFound`, and `SessionBusy` when the code does not react.
        """
        known = self.get(key, execution_id)
        session = None if known.end is not None else self._session_of(key, execution_id, known)
        if session is None:
            return known
        try:
            has_ended = self.sessions.sandboxes.cancel(sandbox_of(session), execution_id).ended
        except (SandboxGone, RunUnknown):
            has_ended = True
        found = self._get(key, execution_id, NO_TIME, within=KEEPING)
        if not has_ended or found.end is None:
            raise SessionBusy(f"execution {execution_id!r} of chat {key.chat_id!r} has not stopped yet; try again")
        return found

    def artifact(self, key: ChatKey, artifact_id: str) -> Artifact:
        """Returns the artifact, which is kept now if its run's call could not. Raises `ArtifactNotFound`."""
        found = self.collect.artifacts.find(key, artifact_id)
        if found is None:
            with suppress(ExecutionNotFound):
                of_run = self.get(key, execution_of(artifact_id)).artifacts
                found = next((artifact for artifact in of_run if artifact.artifact_id == artifact_id), None)
        if found is None:
            raise ArtifactNotFound(
                f"chat {key.chat_id!r} has no artifact {artifact_id!r}; list its artifacts to see their ids"
            )
        return found

    def expires_in(self, execution: Execution) -> timedelta:
        """Returns after what time the run's session ends, unless it has been used since or is in use."""
        ended_at = execution.ended_at or self.sessions.clock()
        left = ended_at + self.sessions.lifetimes.session_timeout - self.sessions.clock()
        return max(NO_TIME, left)

    def _session_of(self, key: ChatKey, execution_id: str, known: Execution | None) -> Session | None:
        """Returns the session that the run is in, if its sandbox is still there."""
        session = self.sessions.store.read(key)
        if session is None or not _has_sandbox(session):
            return None
        if known is not None:
            return session if session.claim_id == known.context.claim_id else None
        # Nobody pays for a paused sandbox to be woken because somebody has guessed an id.
        is_asleep = self.sessions.is_paused(session) and session.run_id != execution_id
        return None if is_asleep else session

    def _told(
        self, session: Session, execution_id: str, wait: timedelta, *, within: timedelta | None = None
    ) -> Execution | None:
        """Returns what the session's sandbox tells of the run, which is recorded if it has ended.

        Its files may take what is left of a call's time, or as long as is said.
        """
        look, key, sandbox = self.collect.look, session.key, sandbox_of(session)
        budget = Budget.of(CALL_BUDGET_S - ANSWER_S)
        try:
            execution = look(key, sandbox, execution_id, wait)
        except SandboxGone:
            try:
                sandbox = sandbox_of(self.sessions.reconnect(session, NO_TIME, Budget.of(RESUME_S)))
                execution = look(key, sandbox, execution_id, wait)
            except SandboxGone:
                return None
        if execution is None or execution.end is None:
            return execution
        left = timedelta(seconds=budget.left_s())
        return self.collect.conclude(session, execution, sandbox, is_told=True, within=within or left)

    def _is_about_to_begin(self, row: Session, execution_id: str) -> bool:
        """Returns whether a call has the session for this run, and is not taken for dead."""
        now = self.sessions.clock()
        is_attended = row.is_claimed(now) if row.state is SessionState.CREATING else row.is_attended(now)
        return row.run_id == execution_id and is_attended

    def _lost(self, session: Session | None, recorded: Execution) -> Execution:
        lost = recorded.ended(RunEnd.SANDBOX_LOST, self.sessions.clock())
        if session is None:
            self.collect.record(lost)
        else:
            self.collect.conclude(session, lost, is_told=True)
        return self.runs.get(recorded.key, recorded.execution_id) or lost


def _has_sandbox(session: Session) -> bool:
    return session.state in (SessionState.READY, SessionState.CLOSING) and session.sandbox is not None


def _left(budget: Budget, reserve_s: float) -> timedelta:
    return timedelta(seconds=max(0.0, budget.left_s() - reserve_s))
