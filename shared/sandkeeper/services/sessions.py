"""One sandbox per chat: how a call gets its chat's session, keeps its sandbox alive, and gives the session back.

    nothing ──begin──► creating ──activate──► ready ◄──claim/release──┐
      ▲                  │   ▲ take-over: same generation    │        │
      │                  │   └── claim window past           └────────┘
      │  (row dropped)   ▼
    closed ◄──end── closing ◄── closed by a caller, or expired and found by cleanup: see ending.py

Every arrow is one conditional write, so of any number of racing callers one wins and the others see its row.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from sandkeeper.errors import CapacityExhausted, SandkeeperError, SessionBusy
from sandkeeper.model import (
    ALL_FILES,
    ChatKey,
    Clock,
    EndReason,
    Lifetimes,
    NewId,
    RunEnd,
    SandboxRef,
    Session,
    SessionState,
)
from sandkeeper.ports import Granted, Refused, SandboxProvider, SandboxSpec, SessionStore
from sandkeeper.services import marks
from sandkeeper.services.budget import CALL_BUDGET_S, Budget
from sandkeeper.services.collect import Collect
from sandkeeper.services.ending import Ending, sandbox_to_kill
from sandkeeper.services.quota import SessionQuota

OnBusy = Literal["wait", "reject"]

WAIT_RESERVE_S = 4.0
"""What waiting for others leaves of a call's budget: what a short run takes in a session that is there."""

RUN_RESERVE_S = 2.0
"""What creating or resuming a sandbox leaves of it."""

CONTROL_S = 15.0
"""The longest that one call of the sandboxes' control plane may take."""

LOOK_S = 2.0
"""For how long at a time a call watches a run that has the session and is attended by nobody."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sessions:
    """The session protocol over a store of rows and a provider of sandboxes."""

    store: SessionStore
    sandboxes: SandboxProvider
    lifetimes: Lifetimes
    quota: SessionQuota
    collect: Collect
    stack: str
    clock: Clock
    new_id: NewId

    @property
    def ending(self) -> Ending:
        """How sessions end."""
        return Ending(self.store, self.sandboxes, self.collect, self.lifetimes, self.clock, self.new_id)

    # ── Getting a session ───────────────────────────────────────────────────────────────────────────

    def acquire(
        self, key: ChatKey, *, run_id: str, run_limit: timedelta, on_busy: OnBusy, budget: Budget
    ) -> Session:
        """Returns the chat's session, which this call alone may now use; one round trip when it is live and idle.

        A session that comes back `creating` has no sandbox yet, and making one is this call's job.
        Raises `SessionBusy` when others hold it and `on_busy` or the budget forbids to wait, and `QuotaExceeded`.
        """
        attempt = 0
        while True:
            now = self.clock()
            outcome = self.store.claim(
                key,
                run_id=run_id,
                now=now,
                run_until=self._attended_until(now),
                expires_at=now + run_limit + self.lifetimes.session_timeout,
            )
            if isinstance(outcome, Granted) and not outcome.session.unreadable:
                return outcome.session
            seen = outcome.session if isinstance(outcome, Granted) else outcome.seen
            if _is_held(seen, now):
                self._wait_for_it(key, seen, on_busy, budget)
                continue
            self._require_room(key, seen, now)
            if seen is not None:
                self.collect.last_words(seen, RunEnd.SANDBOX_LOST)
            started = self.begin(key, seen, run_id=run_id, run_limit=run_limit)
            if started is not None:
                return started
            if not budget.pause(attempt, reserve_s=WAIT_RESERVE_S):  # somebody else was faster
                raise SessionBusy(_busy_detail(key, seen))
            attempt += 1

    def _wait_for_it(self, key: ChatKey, seen: Session | None, on_busy: OnBusy, budget: Budget) -> None:
        """Returns once the session that others hold may be free; ends its lease if its run is over unseen."""
        attempt = 0
        while seen is not None and _is_held(seen, self.clock()):
            if seen.state is SessionState.READY and not seen.is_attended(self.clock()):
                left_s = 0.0 if on_busy == "reject" else budget.left_s() - WAIT_RESERVE_S
                if self.collect.settle(seen, timedelta(seconds=max(0.0, min(LOOK_S, left_s)))):
                    return
                attempt = 0
            if on_busy == "reject" or not budget.pause(attempt, reserve_s=WAIT_RESERVE_S):
                raise SessionBusy(_busy_detail(key, seen))
            attempt += 1
            seen = self.store.read(key)

    def _require_room(self, key: ChatKey, seen: Session | None, now: datetime) -> None:
        """Raises `QuotaExceeded` if a session too many would begin; to replace one that counts adds none."""
        counts = seen is not None and (seen.is_live(now) or seen.state is SessionState.CREATING or seen.unreadable)
        if not counts:
            self.quota.require_room(key.owner, now)

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
            run_until=self._attended_until(now),
            fresh_files=frozenset({ALL_FILES}),
            predecessor_id=sandbox_to_kill(seen),
            end_reason=reason or _end_reason(seen, now),
        )
        if seen is not None and _may_be_taken_over(seen, now - self.lifetimes.claim_life):
            # Its creator died. The same claim id gives the very sandbox that it may have made.
            session = replace(
                session, generation=seen.generation, claim_id=seen.claim_id, created_at=seen.created_at
            )
        outcome = self.store.begin(session, seen=seen)
        return outcome.session if isinstance(outcome, Granted) else None

    # ── Its sandbox ─────────────────────────────────────────────────────────────────────────────────

    def create_sandbox(self, session: Session, budget: Budget) -> tuple[SandboxRef, datetime]:
        """Returns the one sandbox of the session's generation, and when it pauses.

        Creating it twice gives the same one. Tried again while E2B is busy and the budget lasts.
        """
        # Whoever takes a dead creator's claim over has to ask for the very same, whatever its own run's limit is.
        lifetime = self.lifetimes.sandbox_lifetime(self.lifetimes.claim_window)
        spec = SandboxSpec(
            idempotency_key=f"{marks.digest(self.stack)}-{session.claim_id.lower()}",
            lifetime=lifetime,
            pauses=bool(self.lifetimes.idle_pause),
            metadata=marks.of_session(self.stack, session),
        )
        begun = self.clock()
        sandbox = _while_there_is_room(lambda within: self.sandboxes.create(spec, within=within), budget)
        return sandbox, begun + lifetime

    def activate(self, session: Session, sandbox: SandboxRef, pauses_at: datetime) -> Session | None:
        """Makes the new sandbox the chat's own, still leased to this call.

        Returns None when the claim was lost: the sandbox is then killed, unless the winner has or gets the same.
        """
        ready = replace(
            session,
            state=SessionState.READY,
            claim_until=None,
            predecessor_id=None,
            sandbox=sandbox,
            pauses_at=pauses_at,
        )
        match self.store.activate(ready):
            case Granted(activated):
                return activated
            case Refused(seen):
                if not _will_have(seen, session.claim_id, sandbox.sandbox_id):
                    with suppress(SandkeeperError):  # reconciling ends what cannot be ended now
                        self.sandboxes.kill(sandbox.sandbox_id)
                return None

    def reconnect(self, session: Session, run_limit: timedelta, budget: Budget) -> Session:
        """Returns the session with its sandbox running, for a run of this limit: resumed if it was paused.

        Raises `SandboxGone` when there is no such sandbox any more.
        """
        sandbox_id = sandbox_of(session).sandbox_id
        lifetime = self.lifetimes.sandbox_lifetime(run_limit)
        begun = self.clock()
        sandbox = _while_there_is_room(
            lambda within: self.sandboxes.connect(sandbox_id, lifetime, within=within), budget
        )
        running = replace(session, sandbox=sandbox, pauses_at=begun + lifetime)
        self.store.note_sandbox(running)
        return running

    def is_paused(self, session: Session) -> bool:
        """Returns whether the sandbox's deadline has passed, by our clock."""
        return session.pauses_at is not None and session.pauses_at <= self.clock()

    def covers(self, session: Session, run_limit: timedelta) -> bool:
        """Returns whether the sandbox will surely not pause during a run of this limit that begins now."""
        return self._lasts(session, run_limit + self.lifetimes.cover_margin)

    def is_worth_extending(self, session: Session, run_limit: timedelta) -> bool:
        """Returns whether the sandbox would pause, or end, too soon after a run of this limit."""
        return not self._lasts(session, self.lifetimes.worth_moving(run_limit))

    def extend(self, session: Session, run_limit: timedelta) -> Session:
        """Moves E2B's deadline of the session's sandbox, notes the new one, and returns the session with it."""
        lifetime = self.lifetimes.sandbox_lifetime(run_limit)
        begun = self.clock()
        self.sandboxes.extend(sandbox_of(session).sandbox_id, lifetime)
        # Not the sandbox itself: by the time that E2B answers, another call may have written a later one.
        self.store.note_sandbox(replace(session, sandbox=None, pauses_at=begun + lifetime))
        return replace(session, pauses_at=begun + lifetime)

    def _attended_until(self, now: datetime) -> datetime:
        return now + timedelta(seconds=CALL_BUDGET_S) + self.lifetimes.lease_margin

    def _lasts(self, session: Session, time: timedelta) -> bool:
        return session.pauses_at is not None and session.pauses_at >= self.clock() + time

    # ── Giving it back ──────────────────────────────────────────────────────────────────────────────

    def leave(self, session: Session, hydrated: Mapping[str, str]) -> None:
        """Leaves the run to whoever asks for it or wants the session: this call will not see its end."""
        self.store.leave(session, now=self.clock(), hydrated=hydrated)

    def shorten(self, session: Session) -> None:
        """Lets the sandbox pause as soon as after any run, if it was to stay awake for one that was over sooner.

        To be called while the session is still leased: no other run can be in it.
        """
        idle_pause = self.lifetimes.idle_pause
        if idle_pause and self._lasts(session, 2 * idle_pause):
            self.extend(session, timedelta(0))

    def release(self, session: Session, *, ran: bool, hydrated: Mapping[str, str]) -> None:
        """Gives the session back. `ran`: whether code was started."""
        now = self.clock()
        self.store.release(
            session, now=now, ran=ran, expires_at=now + self.lifetimes.session_timeout, hydrated=hydrated
        )

    def abandon(self, session: Session) -> None:
        """Gives a claim to create up at once, so that the next caller need not wait for its window."""
        self.store.abandon(session, now=self.clock())


def _is_held(seen: Session | None, now: datetime) -> bool:
    return seen is not None and (seen.is_claimed(now) or (seen.is_live(now) and seen.is_busy))


def _may_be_taken_over(seen: Session, oldest: datetime) -> bool:
    """Returns whether the claim goes on: what older ones have made, reconciling may be about to kill."""
    return seen.state is SessionState.CREATING and seen.created_at > oldest


def _busy_detail(key: ChatKey, seen: Session | None) -> str:
    doing = "using"
    if seen is not None and seen.state is SessionState.CREATING:
        doing = "creating"
    if seen is not None and seen.state is SessionState.CLOSING:
        doing = "closing"
    return f"another call is {doing} the session of chat {key.chat_id!r}; try again in a moment"


def _end_reason(seen: Session | None, now: datetime) -> EndReason | None:
    """Returns why the sandbox of the row `seen` is not to be used any more."""
    if seen is not None and seen.state is SessionState.READY:
        return EndReason.EXPIRED if seen.expires_at <= now else EndReason.SANDBOX_LOST
    return seen.end_reason if seen is not None else None


def _will_have(seen: Session | None, claim_id: str, sandbox_id: str) -> bool:
    """Returns whether the row `seen` has this sandbox, or is about to: whoever took its claim over is given it."""
    if seen is None or seen.claim_id != claim_id:
        return False
    if seen.state is SessionState.CREATING:
        return True
    return seen.sandbox is not None and seen.sandbox.sandbox_id == sandbox_id


def sandbox_of(session: Session) -> SandboxRef:
    """Returns where the code of a session that is `ready` runs."""
    assert session.sandbox is not None, "only a ready session has a sandbox"  # noqa: S101
    return session.sandbox


def _while_there_is_room(ask: Callable[[timedelta], T], budget: Budget) -> T:
    """Returns what `ask` gives, asked again with jitter as long as E2B is busy and the budget lasts."""
    attempt = 0
    while True:
        try:
            return ask(budget.within(CONTROL_S, reserve_s=RUN_RESERVE_S))
        except CapacityExhausted:
            if not budget.pause(attempt, reserve_s=WAIT_RESERVE_S):
                raise
            attempt += 1
