"""One sandbox per chat: how a call gets its chat's session, gives it back, and how a session ends.

    nothing ──begin──► creating ──activate──► ready ◄──claim/release──┐
      ▲                  │   ▲ take-over: same generation    │        │
      │                  │   └── claim window past           └────────┘
      │  (row dropped)   ▼
    closed ◄──end── closing ◄── closed by a caller, or expired and found by cleanup

Every arrow is one conditional write, so of any number of racing callers one wins and the others see its row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from sandkeeper.errors import SessionBusy
from sandkeeper.model import (
    ALL_FILES,
    ChatKey,
    Clock,
    EndReason,
    Lifetimes,
    NewId,
    SandboxRef,
    Session,
    SessionState,
)
from sandkeeper.ports import Granted, Refused, SandboxProvider, SandboxSpec, SessionStore
from sandkeeper.services.budget import Budget

OnBusy = Literal["wait", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """What a caller may know of a chat's session."""

    sandbox_id: str
    expires_in: timedelta


@dataclass(frozen=True, slots=True)
class Sessions:
    """The session protocol over a store of rows and a provider of sandboxes."""

    store: SessionStore
    sandboxes: SandboxProvider
    lifetimes: Lifetimes
    stack: str
    clock: Clock
    new_id: NewId

    # ── Getting a session, and giving it back ───────────────────────────────────────────────────────

    def acquire(
        self, key: ChatKey, *, run_id: str, run_limit: timedelta, on_busy: OnBusy, budget: Budget
    ) -> Session:
        """Returns the chat's session, which this call alone may now use; one round trip when it is live and idle.

        A session that comes back `creating` has no sandbox yet, and making one is this call's job.
        Raises `SessionBusy` when others hold it and `on_busy` or the budget forbids to wait.
        """
        attempt = 0
        while True:
            now = self.clock()
            outcome = self.store.claim(
                key,
                run_id=run_id,
                now=now,
                run_until=now + run_limit + self.lifetimes.lease_margin,
                expires_at=now + run_limit + self.lifetimes.session_timeout,
            )
            if isinstance(outcome, Granted):
                return outcome.session
            seen = outcome.seen
            if not _is_held(seen, now):
                started = self.begin(key, seen, run_id=run_id, run_limit=run_limit)
                if started is not None:
                    return started
            while _is_held(seen, self.clock()):
                if on_busy == "reject" or not budget.pause(attempt):
                    raise SessionBusy(_busy_detail(seen))
                attempt += 1
                seen = self.store.read(key)

    def begin(
        self,
        key: ChatKey,
        seen: Session | None,
        *,
        run_id: str,
        run_limit: timedelta,
        reason: EndReason | None = None,
    ) -> Session | None:
        """Takes the right to create the chat's sandbox, in place of the row `seen` that ended for `reason`.

        Returns None when that row has changed since: somebody else was faster.
        """
        now = self.clock()
        session = Session(
            key=key,
            state=SessionState.CREATING,
            generation=1 if seen is None else seen.generation + 1,
            claim_id=self.new_id(),
            created_at=now,
            last_used_at=now,
            expires_at=now + run_limit + self.lifetimes.session_timeout,
            claim_until=now + self.lifetimes.claim_window,
            run_id=run_id,
            run_until=now + run_limit + self.lifetimes.claim_window + self.lifetimes.lease_margin,
            fresh_files=frozenset({ALL_FILES}),
            predecessor_id=_sandbox_to_kill(seen),
            end_reason=reason or _end_reason(seen),
        )
        if seen is not None and seen.state is SessionState.CREATING:
            # Its creator died. The same claim id gives the very sandbox that it may have made.
            session = replace(session, generation=seen.generation, claim_id=seen.claim_id)
        outcome = self.store.begin(session, seen=seen)
        return outcome.session if isinstance(outcome, Granted) else None

    def create_sandbox(self, session: Session) -> SandboxRef:
        """Returns the one sandbox of the session's generation; creating it twice gives the same one."""
        lifetime = self.lifetimes.session_timeout + self.lifetimes.sandbox_slack
        spec = SandboxSpec(
            idempotency_key=f"{_digest(self.stack)}-{session.claim_id.lower()}",
            lifetime=lifetime,
            metadata={
                "app": "sandkeeper",
                "stack": self.stack,
                "chat": _digest(f"{session.key.owner}#{session.key.chat_id}"),
                "generation": str(session.generation),
                "claim": session.claim_id,
            },
        )
        return self.sandboxes.create(spec)

    def activate(self, session: Session, sandbox: SandboxRef) -> Session | None:
        """Makes the new sandbox the chat's own, still leased to this call.

        Returns None when the claim was lost: the sandbox is then killed, unless the winner has the same one.
        """
        now = self.clock()
        ready = replace(
            session,
            state=SessionState.READY,
            claim_until=None,
            predecessor_id=None,
            sandbox=sandbox,
            sandbox_until=now + self.lifetimes.session_timeout + self.lifetimes.sandbox_slack,
        )
        match self.store.activate(ready):
            case Granted(activated):
                return activated
            case Refused(seen):
                winner = seen.sandbox if seen else None
                if winner is None or winner.sandbox_id != sandbox.sandbox_id:
                    self.sandboxes.kill(sandbox.sandbox_id)
                return None

    def needs_extension(self, session: Session) -> bool:
        """Returns whether E2B would end the sandbox before the session ends."""
        return session.sandbox_until is None or session.sandbox_until < session.expires_at

    def extend(self, session: Session) -> datetime:
        """Moves E2B's deadline of the session's sandbox, and returns the new one."""
        assert session.sandbox is not None, "only a ready session has a deadline"  # noqa: S101
        now = self.clock()
        lifetime = session.expires_at - now + self.lifetimes.sandbox_slack
        self.sandboxes.extend(session.sandbox.sandbox_id, lifetime)
        return now + lifetime

    def release(
        self, session: Session, *, ran: bool, sandbox_until: datetime | None, hydrated: Mapping[str, str]
    ) -> timedelta:
        """Gives the session back and returns after what time it expires. `ran`: whether code was started."""
        now = self.clock()
        self.store.release(
            session,
            now=now,
            ran=ran,
            expires_at=now + self.lifetimes.session_timeout,
            sandbox_until=sandbox_until or session.sandbox_until or now,
            hydrated=hydrated,
        )
        return self.lifetimes.session_timeout

    def abandon(self, session: Session) -> None:
        """Gives a claim to create up at once, so that the next caller need not wait for its window."""
        self.store.abandon(session, now=self.clock())

    # ── Looking at a session, and ending it ─────────────────────────────────────────────────────────

    def info(self, key: ChatKey) -> SessionInfo | None:
        """Returns the chat's live session, None when a call now would begin a new one."""
        now = self.clock()
        session = self.store.read(key)
        if session is None or session.sandbox is None or not session.is_live(now):
            return None
        return SessionInfo(sandbox_id=session.sandbox.sandbox_id, expires_in=session.expires_at - now)

    def close(self, key: ChatKey) -> None:
        """Ends the chat's session and its sandbox, also while it is busy. No session is fine too.

        When the sandbox cannot be killed now the row stays `closing`, and cleanup finishes the work.
        """
        now = self.clock()
        outcome = self.store.begin_close(key, now=now, claim_until=now + self.lifetimes.claim_window)
        if isinstance(outcome, Granted):
            self.finish(outcome.session)

    def finish(self, session: Session) -> None:
        """Kills the sandbox that a `closing` session has or was to replace; the row then says that it is gone."""
        sandbox_id = _sandbox_to_kill(session)
        if sandbox_id is not None:
            self.sandboxes.kill(sandbox_id)
        self.store.end(session, forget_at=self.clock() + self.lifetimes.tombstone)


def _is_held(seen: Session | None, now: datetime) -> bool:
    return seen is not None and (seen.is_claimed(now) or (seen.is_live(now) and seen.is_busy(now)))


def _busy_detail(seen: Session | None) -> str:
    doing = "using"
    if seen is not None and seen.state is SessionState.CREATING:
        doing = "creating"
    if seen is not None and seen.state is SessionState.CLOSING:
        doing = "closing"
    chat_id = seen.key.chat_id if seen else ""
    return f"another call is {doing} the session of chat {chat_id!r}; try again in a moment"


def _end_reason(seen: Session | None) -> EndReason | None:
    """Returns why the sandbox of the row `seen` is not to be used any more."""
    if seen is not None and seen.state is SessionState.READY:
        return EndReason.EXPIRED
    return seen.end_reason if seen is not None else None


def _sandbox_to_kill(seen: Session | None) -> str | None:
    """Returns the id of the sandbox that the row `seen` leaves behind."""
    if seen is None:
        return None
    return seen.sandbox.sandbox_id if seen.sandbox is not None else seen.predecessor_id


def _digest(text: str) -> str:
    """Returns a short name for `text` that does not tell it."""
    return sha256(text.encode()).hexdigest()[:16]
