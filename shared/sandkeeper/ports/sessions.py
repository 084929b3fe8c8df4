"""The rows of sessions, and how cleanup finds what nobody points to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sandkeeper.model import ChatKey, EndReason, Session


@dataclass(frozen=True, slots=True)
class Granted:
    """The conditional write took place; `session` is the row after it."""

    session: Session


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a chat stands among its owner's: in the order in which their sessions expire."""

    expires_at: datetime
    chat_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The condition did not hold; `seen` is the row that stood in the way, None when there was none."""

    seen: Session | None


class SessionStore(Protocol):
    """The sessions' rows. Every write is conditional, atomic and one round trip.

    `now` is the caller's clock: rows are compared with it, never with the store's own clock.
    """

    def claim(
        self, key: ChatKey, *, run_id: str, now: datetime, run_until: datetime, expires_at: datetime
    ) -> Granted | Refused:
        """Takes the lease of a live session for a run, and pushes the session's expiry.

        Granted when no run has the lease, or this very run has it and its call is gone. Of any number of concurrent
        claims one is granted.
        """
        ...

    def begin(self, session: Session, *, seen: Session | None) -> Granted | Refused:
        """Writes `session` (`creating` or `closing`) in place of the row `seen`, unless that has changed since.

        The one write that works on an unreadable row too.
        """
        ...

    def point(self, session: Session) -> None:
        """Lets `claimants` find the chat by the session's claim id. Repeating it does nothing."""
        ...

    def claimants(self, claim_ids: Sequence[str]) -> Mapping[str, Session]:
        """Returns the row, as the last write left it, of each chat that these claim ids point to.

        At most 100 ids. One that points nowhere, or to a chat without a row, is left out.
        """
        ...

    def activate(self, session: Session) -> Granted | Refused:
        """Writes `session` (`ready`) over its own `creating` row: same claim, same run, still creating."""
        ...

    def abandon(self, session: Session, *, now: datetime) -> None:
        """Ends the claim window of this `creating` row at once, so that the next caller takes it over.

        Does nothing when the row has moved on.
        """
        ...

    def leave(self, session: Session, *, now: datetime, hydrated: Mapping[str, str]) -> bool:
        """Tells that no call attends to the run `session.run_id` any more: whoever wants the session may look.

        Notes the files as `release` does. Returns False, and writes nothing, when the lease is not this run's.
        """
        ...

    def note_sandbox(self, session: Session) -> bool:
        """Writes `pauses_at` and, unless it is None, the session's sandbox into its own `ready` row.

        Returns False, and writes nothing, when the row is of another claim or no longer `ready`.
        """
        ...

    def release(
        self, session: Session, *, now: datetime, ran: bool, expires_at: datetime, hydrated: Mapping[str, str]
    ) -> bool:
        """Drops the lease `session.run_id` and pushes the expiry.

        Adds `hydrated` to the files that the sandbox has; with `session.fresh_files` it is then up to date. If it
        `ran`, the run is counted and leaves `session.untold`. Returns False, and writes nothing, when the lease is
        no longer this run's.
        """
        ...

    def announce_file(self, key: ChatKey, file_id: str) -> None:
        """Adds the file to the session's fresh ones. A chat without a row needs no telling.

        To be called once the file is `ready`: a session that begins later finds it by itself.
        """
        ...

    def forget_file(self, key: ChatKey, file_id: str) -> None:
        """Removes the file from those that the sandbox has. Does nothing when it has not got it."""
        ...

    def read(self, key: ChatKey) -> Session | None:
        """Returns the row as the last write left it."""
        ...

    def begin_close(
        self, key: ChatKey, *, now: datetime, claim_until: datetime, reason: EndReason = EndReason.CLOSED
    ) -> Granted | Refused:
        """Marks the session `closing` for this reason, whatever it is doing: no new run can start.

        Refused when there is none, it is `closed`, or somebody else is closing it within their window.
        """
        ...

    def begin_expire(self, key: ChatKey, *, now: datetime, claim_until: datetime) -> Granted | Refused:
        """Marks an expired session `closing` for `EndReason.EXPIRED`.

        Refused unless it is still expired, and no claim is under way: using a session pushes its expiry beyond the
        run's limit. A row that somebody else left `closing` keeps its reason. One that is unreadable is refused:
        see `begin`.
        """
        ...

    def end(self, session: Session, *, forget_at: datetime) -> bool:
        """Turns its own `closing` row into a `closed` one that knows no sandbox and is in no index.

        Returns False, and writes nothing, when the row has moved on.
        """
        ...

    def shards(self) -> Sequence[str]:
        """Returns the parts of the index of live rows, which can be read side by side."""
        ...

    def expired(self, shard: str, *, now: datetime) -> Iterator[ChatKey]:
        """Yields the shard's chats of which the row is due, at a cost that grows with their number alone.

        Read from an index that may lag: a hint, to be confirmed by `begin_expire`.
        """
        ...

    def live(self, shard: str) -> Iterator[ChatKey]:
        """Yields all of the shard's chats that have a row in the index, due or not."""
        ...

    def owned(self, owner: str, *, now: datetime, limit: int, after: Position | None = None) -> Sequence[Position]:
        """Returns the owner's chats that have a row in the index that is not due, the one that expires next first.

        Those behind `after`, at most `limit` of them; fewer mean that there are no more. The index may lag.
        """
        ...

    def count_owned(self, owner: str, *, now: datetime) -> int:
        """Returns how many there are in all."""
        ...

    def read_many(self, keys: Sequence[ChatKey]) -> Sequence[Session]:
        """Returns the rows of these chats, at most 100, as the last writes left them, in this order.

        Chats without a row are left out.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far a sweep through all sandboxes has come: where it goes on, and how many it has seen."""

    token: str | None = None
    seen: int = 0


class SweepStore(Protocol):
    """Where the sweep stands between two ticks."""

    def read(self) -> Sweep:
        """Returns where the last tick left off; a new sweep when there is none."""
        ...

    def write(self, sweep: Sweep) -> None:
        """Notes where the next tick goes on."""
        ...
