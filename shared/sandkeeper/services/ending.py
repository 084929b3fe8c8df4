"""How a session ends: closed by a caller, expired, or ended by force. A call that uses it in between wins.

    ready, creating ──begin_close──► closing ──kill──► ──end──► closed

Whoever dies on the way leaves a `closing` row that is due at once, so that cleanup goes on from there.
"""

from dataclasses import dataclass, replace

from sandkeeper.model import ChatKey, Clock, EndReason, Lifetimes, NewId, RunEnd, Session, SessionState
from sandkeeper.ports import Granted, Refused, SandboxProvider, SessionStore
from sandkeeper.services.collect import Collect


@dataclass(frozen=True, slots=True)
class Ending:
    """Ends sessions. Whatever is refused here was ended, or taken into use, by somebody else."""

    store: SessionStore
    sandboxes: SandboxProvider
    collect: Collect
    lifetimes: Lifetimes
    clock: Clock
    new_id: NewId

    def close(self, key: ChatKey, reason: EndReason = EndReason.CLOSED) -> bool:
        """Ends the chat's session and its sandbox, also while it is busy. Returns False when there was none.

        When the sandbox cannot be killed now the row stays `closing`, and cleanup finishes the work.
        """
        now = self.clock()
        until = now + self.lifetimes.claim_window
        return self._finished(self.store.begin_close(key, now=now, claim_until=until, reason=reason))

    def expire(self, key: ChatKey) -> bool:
        """Ends a session that nobody has used for the session timeout. Returns False when it is not so any more."""
        now = self.clock()
        return self._finished(self.store.begin_expire(key, now=now, claim_until=now + self.lifetimes.claim_window))

    def _finished(self, outcome: Granted | Refused) -> bool:
        seen = outcome.session if isinstance(outcome, Granted) else outcome.seen
        if seen is not None and seen.unreadable:
            outcome = self._condemn(seen)
        if isinstance(outcome, Refused):
            return False
        self._finish(outcome.session)
        return True

    def _condemn(self, seen: Session) -> Granted | Refused:
        """Writes a `closing` row over one that nobody can read."""
        now = self.clock()
        closing = replace(
            seen,
            state=SessionState.CLOSING,
            claim_id=self.new_id(),
            created_at=now,
            last_used_at=now,
            expires_at=now,
            claim_until=now + self.lifetimes.claim_window,
            unreadable=False,
        )
        return self.store.begin(closing, seen=seen)

    def _finish(self, session: Session) -> None:
        """Kills the sandbox that a `closing` session has or was to replace; the row then says that it is gone.

        The run in it, if any, is recorded before.
        """
        given_up = session.end_reason in (EndReason.CLOSED, EndReason.FORCED)
        self.collect.last_words(session, RunEnd.CANCELLED if given_up else RunEnd.SANDBOX_LOST)
        sandbox_id = sandbox_to_kill(session)
        if sandbox_id is not None:
            self.sandboxes.kill(sandbox_id)
        self.store.end(session, forget_at=self.clock() + self.lifetimes.tombstone)


def sandbox_to_kill(seen: Session | None) -> str | None:
    """Returns the id of the sandbox that the row `seen` leaves behind."""
    if seen is None:
        return None
    return seen.sandbox.sandbox_id if seen.sandbox is not None else seen.predecessor_id
