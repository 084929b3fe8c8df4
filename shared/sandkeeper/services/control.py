"""Look at sessions and what lives in them, stop what one is running, give it a fresh kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sandkeeper.errors import CapacityExhausted, SandboxUnavailable, SandkeeperError, SessionBusy, SessionNotFound
from sandkeeper.model import ChatKey, SandboxRef, Session, SessionState
from sandkeeper.ports import Completions, Position, SandboxGone
from sandkeeper.services.budget import Budget
from sandkeeper.services.sessions import Sessions, sandbox_of

RESTART_S = 25.0

RESTART_COVER = timedelta(seconds=30)
"""For how long a sandbox that was resumed only for its kernel to be restarted surely stays awake."""

Activity = Literal["creating", "idle", "running", "paused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A live session as its owner may know it."""

    session: Session
    activity: Activity
    expires_in: timedelta

    @property
    def awake(self) -> SandboxRef | None:
        """Where its sandbox is, if that is awake: whoever only asks should wake none."""
        return self.session.sandbox if self.activity in ("idle", "running") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionList:
    """Some of an owner's live sessions, the one that expires next first."""

    sessions: Sequence[SessionInfo]
    count: int
    """How many there are in all."""
    after: Position | None
    """Where the next part begins, None behind the last."""


@dataclass(frozen=True, slots=True)
class SessionControl:
    """What owners can see of their sessions, and do to them beside running code."""

    sessions: Sessions

    def find(self, key: ChatKey) -> SessionInfo | None:
        """Returns the chat's live session, None when a call now would begin a new one."""
        now = self.sessions.clock()
        session = self.sessions.store.read(key)
        return None if session is None or not _is_there(session, now) else _info(session, now)

    def look(self, key: ChatKey) -> SessionInfo:
        """Returns the chat's live session, and does not take a run for one under way that has ended unseen.

        Raises `SessionNotFound`.
        """
        found = self.get(key)
        session, now = found.session, self.sessions.clock()
        if session.state is SessionState.READY and session.is_busy and not session.is_attended(now):
            try:
                self.sessions.collect.settle(session, timedelta(0))
            except (SandboxUnavailable, CapacityExhausted):
                return found
        return self.get(key)

    def get(self, key: ChatKey) -> SessionInfo:
        """Returns the chat's live session. Raises `SessionNotFound`."""
        found = self.find(key)
        if found is None:
            raise _not_found(key)
        return found

    def list(self, owner: str, *, limit: int, after: Position | None) -> SessionList:
        """Returns up to `limit` of the owner's live sessions, those behind `after`."""
        now, store = self.sessions.clock(), self.sessions.store
        positions = store.owned(owner, now=now, limit=limit, after=after)
        rows = store.read_many([ChatKey(owner, position.chat_id) for position in positions])
        return SessionList(
            sessions=[_info(row, now) for row in rows if _is_there(row, now)],
            count=store.count_owned(owner, now=now),
            after=positions[-1] if len(positions) == limit else None,
        )

    def interrupt(self, key: ChatKey) -> bool:
        """Stops the code that the session is running, and returns True once it has; False if it runs nothing.

        Variables stay. Raises `SessionNotFound`, or `SessionBusy` when the code does not react.
        """
        sandbox = self.get(key).session.sandbox
        if sandbox is None:  # it is being created
            return False
        try:
            cancelled = self.sessions.sandboxes.cancel(sandbox)
        except SandboxGone:
            return False
        if not cancelled.ended:
            raise SessionBusy(
                f"the code of chat {key.chat_id!r} has not stopped after being interrupted; restart the"
                " session's kernel"
            )
        return cancelled.found

    def complete(self, key: ChatKey, code: str, cursor: int) -> Completions | None:
        """Returns what could stand at the cursor, by what lives in the chat's kernel; None when it cannot be asked.

        Neither makes nor wakes a sandbox, nor keeps one awake.
        """
        info = self.find(key)
        if info is None or info.awake is None:
            return None
        try:
            return self.sessions.sandboxes.complete(info.awake, code, cursor)
        except (SandboxGone, SandkeeperError):
            return None

    def restart(self, key: ChatKey) -> None:
        """Gives the session a fresh kernel: variables go, files stay, and a run under way ends.

        The sandbox itself remembers it, and tells the next run. Raises `SessionNotFound`.
        """
        session = self.get(key).session
        if session.sandbox is None:
            raise _not_found(key)
        try:
            self.sessions.sandboxes.restart_kernel(session.sandbox)
        except SandboxGone:
            self._restart_resumed(session)

    def _restart_resumed(self, session: Session) -> None:
        try:
            resumed = self.sessions.reconnect(session, RESTART_COVER, Budget.of(RESTART_S))
            self.sessions.sandboxes.restart_kernel(sandbox_of(resumed))
        except SandboxGone as error:
            raise _not_found(session.key) from error


def _is_there(session: Session, now: datetime) -> bool:
    return session.state in (SessionState.READY, SessionState.CREATING) and session.expires_at > now


def _info(session: Session, now: datetime) -> SessionInfo:
    return SessionInfo(
        session=session, activity=_activity(session, now), expires_in=max(timedelta(0), session.expires_at - now)
    )


def _activity(session: Session, now: datetime) -> Activity:
    if session.state is SessionState.CREATING:
        return "creating"
    if session.is_busy:
        return "running"
    return "paused" if session.pauses_at is not None and session.pauses_at <= now else "idle"


def _not_found(key: ChatKey) -> SessionNotFound:
    return SessionNotFound(f"chat {key.chat_id!r} has no live session; running code begins one")
