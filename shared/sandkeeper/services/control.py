"""Look at sessions, stop what one is running, give it a fresh kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sandkeeper.errors import SessionBusy, SessionNotFound
from sandkeeper.model import ChatKey, Session, SessionState
from sandkeeper.ports import Granted, Position, Refused, SandboxGone
from sandkeeper.services.budget import Budget
from sandkeeper.services.sessions import Sessions

INTERRUPT_S = 10.0
"""How long code may take to react to being interrupted."""

SIGNAL_EVERY_S = 1.0
"""How long code has to end before it is signalled again: a signal too many disturbs whatever comes next."""

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
        session = self.get(key).session
        run_id = session.run_id
        budget = Budget.of(INTERRUPT_S)
        attempt, signal_at_s = 0, budget.left_s()
        while _runs(session, run_id, self.sessions.clock()):
            assert session.sandbox is not None, "a session that runs code has a sandbox"  # noqa: S101
            try:
                if budget.left_s() <= signal_at_s:
                    self.sessions.sandboxes.interrupt(session.sandbox)
                    signal_at_s = budget.left_s() - SIGNAL_EVERY_S
            except SandboxGone:
                return False
            # The call that runs the code has to see its end, too; and the code may not have begun when signalled.
            if not budget.pause(attempt, reserve_s=0):
                raise SessionBusy(
                    f"the code of chat {key.chat_id!r} has not stopped {INTERRUPT_S:.0f} s after being"
                    " interrupted; restart the session's kernel"
                )
            attempt += 1
            session = self.sessions.store.read(key) or session
        return attempt > 0

    def restart(self, key: ChatKey) -> None:
        """Gives the session a fresh kernel: variables go, files stay, and a run under way ends.

        The next run's caller is told. Raises `SessionNotFound`.
        """
        # Noted before, should this call die once the kernel is restarted; and after, for a run that came in between
        # was told of it too early, and took the word with it. Better once too often than never.
        noted = self._note_restart(key)
        if isinstance(noted, Refused) or noted.session.sandbox is None:
            raise _not_found(key)
        try:
            self.sessions.sandboxes.restart_kernel(noted.session.sandbox)
        except SandboxGone:
            self._restart_resumed(noted.session)
        self._note_restart(key)

    def _note_restart(self, key: ChatKey) -> Granted | Refused:
        return self.sessions.store.note_restart(key, now=self.sessions.clock())

    def _restart_resumed(self, session: Session) -> None:
        try:
            resumed = self.sessions.reconnect(session, RESTART_COVER, Budget.of(RESTART_S))
            assert resumed.sandbox is not None, "reconnecting gives a sandbox"  # noqa: S101
            self.sessions.sandboxes.restart_kernel(resumed.sandbox)
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
    if session.is_busy(now):
        return "running"
    return "paused" if session.pauses_at is not None and session.pauses_at <= now else "idle"


def _runs(session: Session, run_id: str | None, now: datetime) -> bool:
    return session.is_live(now) and session.is_busy(now) and session.run_id == run_id


def _not_found(key: ChatKey) -> SessionNotFound:
    return SessionNotFound(f"chat {key.chat_id!r} has no live session; running code begins one")
