"""How many live sessions an owner may have: each is a sandbox that somebody pays for."""

from dataclasses import dataclass
from datetime import datetime

from sandkeeper.errors import QuotaExceeded
from sandkeeper.ports import SessionStore

NAMED = 3
"""How many sessions a refusal suggests to close."""


@dataclass(frozen=True, slots=True)
class SessionQuota:
    """The cap on an owner's live sessions. Counted in an index that may lag, so a burst may pass it by a few."""

    store: SessionStore
    cap: int

    def require_room(self, owner: str, now: datetime) -> None:
        """Raises `QuotaExceeded` when the owner is at the cap; names the sessions that have been idle longest."""
        live = self.store.owned(owner, now=now, limit=self.cap)
        if len(live) < self.cap:
            return
        idlest = ", ".join(repr(position.chat_id) for position in live[:NAMED])
        raise QuotaExceeded(
            f"there are {self.cap} live sessions, which is the limit (MAX_SESSIONS_PER_OWNER); close one that is"
            f" not needed any more, such as {idlest}, or wait until one expires"
        )
