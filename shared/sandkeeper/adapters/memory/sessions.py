"""Sessions' rows in memory."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sandkeeper.model import (
    ChatKey,
    EndReason,
    Session,
    SessionState,
)
from sandkeeper.ports import Granted, Position, Refused, Sweep


class MemorySessionStore:
    """`SessionStore` in a dictionary; one lock makes every write atomic."""

    def __init__(self) -> None:
        self._rows: dict[ChatKey, Session] = {}
        self._claims: dict[str, ChatKey] = {}
        self._lock = threading.Lock()

    def claim(
        self, key: ChatKey, *, run_id: str, now: datetime, run_until: datetime, expires_at: datetime
    ) -> Granted | Refused:
        """See `SessionStore.claim`."""
        return self._write(
            key,
            lambda row: (
                row.is_live(now) and (not row.is_busy or (row.run_id == run_id and not row.is_attended(now)))
            ),
            lambda row: replace(row, run_id=run_id, run_until=run_until, last_used_at=now, expires_at=expires_at),
        )

    def begin(self, session: Session, *, seen: Session | None) -> Granted | Refused:
        """See `SessionStore.begin`."""
        with self._lock:
            row = self._rows.get(session.key)
            if _identity(row) != _identity(seen):
                return Refused(row)
            self._rows[session.key] = session
            return Granted(session)

    def activate(self, session: Session) -> Granted | Refused:
        """See `SessionStore.activate`."""
        return self._write(
            session.key,
            lambda row: row.state is SessionState.CREATING and _same_run(row, session),
            lambda row: replace(session, fresh_files=row.fresh_files),
        )

    def abandon(self, session: Session, *, now: datetime) -> None:
        """See `SessionStore.abandon`."""
        self._write(
            session.key,
            lambda row: row.state is SessionState.CREATING and _same_run(row, session),
            lambda row: replace(row, claim_until=now),
        )

    def point(self, session: Session) -> None:
        """See `SessionStore.point`."""
        self._claims[session.claim_id] = session.key

    def claimants(self, claim_ids: Sequence[str]) -> Mapping[str, Session]:
        """See `SessionStore.claimants`."""
        chats = {claim_id: self._claims[claim_id] for claim_id in claim_ids if claim_id in self._claims}
        return {claim_id: row for claim_id, key in chats.items() if (row := self.read(key)) is not None}

    def leave(self, session: Session, *, now: datetime, hydrated: Mapping[str, str]) -> bool:
        """See `SessionStore.leave`."""
        outcome = self._write(
            session.key,
            lambda row: row.state is SessionState.READY and _same_run(row, session),
            lambda row: replace(row, run_until=now, **_files(row, session, hydrated)),
        )
        return isinstance(outcome, Granted)

    def note_sandbox(self, session: Session) -> bool:
        """See `SessionStore.note_sandbox`."""
        outcome = self._write(
            session.key,
            lambda row: row.state is SessionState.READY and row.claim_id == session.claim_id,
            lambda row: replace(row, sandbox=session.sandbox or row.sandbox, pauses_at=session.pauses_at),
        )
        return isinstance(outcome, Granted)

    def release(
        self, session: Session, *, now: datetime, ran: bool, expires_at: datetime, hydrated: Mapping[str, str]
    ) -> bool:
        """See `SessionStore.release`."""
        outcome = self._write(
            session.key,
            lambda row: row.state is SessionState.READY and _same_run(row, session),
            lambda row: replace(
                row,
                run_id=None,
                run_until=None,
                last_used_at=now,
                expires_at=expires_at,
                **_files(row, session, hydrated),
                run_count=row.run_count + ran,
                untold=session.untold if ran else row.untold,
            ),
        )
        return isinstance(outcome, Granted)

    def announce_file(self, key: ChatKey, file_id: str) -> None:
        """See `SessionStore.announce_file`."""
        self._write(key, lambda _: True, lambda row: replace(row, fresh_files=row.fresh_files | {file_id}))

    def forget_file(self, key: ChatKey, file_id: str) -> None:
        """See `SessionStore.forget_file`."""
        self._write(
            key,
            lambda row: file_id in row.hydrated,
            lambda row: replace(
                row, hydrated={other: path for other, path in row.hydrated.items() if other != file_id}
            ),
        )

    def read(self, key: ChatKey) -> Session | None:
        """See `SessionStore.read`."""
        with self._lock:
            return self._rows.get(key)

    def begin_close(
        self, key: ChatKey, *, now: datetime, claim_until: datetime, reason: EndReason = EndReason.CLOSED
    ) -> Granted | Refused:
        """See `SessionStore.begin_close`."""
        return self._write(
            key,
            lambda row: (
                row.state is not SessionState.CLOSED
                and not (row.state is SessionState.CLOSING and row.is_claimed(now))
            ),
            lambda row: _closing(row, now, claim_until, reason),
        )

    def begin_expire(self, key: ChatKey, *, now: datetime, claim_until: datetime) -> Granted | Refused:
        """See `SessionStore.begin_expire`."""
        return self._write(
            key,
            lambda row: row.state is not SessionState.CLOSED and row.expires_at <= now and not row.is_claimed(now),
            lambda row: _closing(
                row,
                now,
                claim_until,
                row.end_reason if row.state is SessionState.CLOSING else EndReason.EXPIRED,
            ),
        )

    def end(self, session: Session, *, forget_at: datetime) -> bool:
        """See `SessionStore.end`."""
        outcome = self._write(
            session.key,
            lambda row: row.state is SessionState.CLOSING and row.claim_id == session.claim_id,
            lambda row: replace(
                row,
                state=SessionState.CLOSED,
                claim_until=None,
                sandbox=None,
                pauses_at=None,
                run_id=None,
                run_until=None,
                hydrated={},
                fresh_files=frozenset(),
                predecessor_id=None,
            ),
        )
        return isinstance(outcome, Granted)

    def shards(self) -> Sequence[str]:
        """See `SessionStore.shards`."""
        return ["all"]

    def expired(self, shard: str, *, now: datetime) -> Iterator[ChatKey]:
        """See `SessionStore.expired`."""
        return iter([row.key for row in self._indexed() if row.expires_at <= now])

    def live(self, shard: str) -> Iterator[ChatKey]:
        """See `SessionStore.live`."""
        return iter([row.key for row in self._indexed()])

    def owned(self, owner: str, *, now: datetime, limit: int, after: Position | None = None) -> Sequence[Position]:
        """See `SessionStore.owned`."""
        found = sorted(Position(row.expires_at, row.key.chat_id) for row in self._owned(owner, now))
        return [position for position in found if after is None or position > after][:limit]

    def count_owned(self, owner: str, *, now: datetime) -> int:
        """See `SessionStore.count_owned`."""
        return len(self._owned(owner, now))

    def read_many(self, keys: Sequence[ChatKey]) -> Sequence[Session]:
        """See `SessionStore.read_many`."""
        return [row for key in keys if (row := self.read(key)) is not None]

    def _owned(self, owner: str, now: datetime) -> list[Session]:
        return [row for row in self._indexed() if row.key.owner == owner and row.expires_at > now]

    def _indexed(self) -> list[Session]:
        with self._lock:
            return [row for row in self._rows.values() if row.state is not SessionState.CLOSED]

    def _write(
        self, key: ChatKey, condition: Callable[[Session], bool], change: Callable[[Session], Session]
    ) -> Granted | Refused:
        with self._lock:
            row = self._rows.get(key)
            if row is None or not condition(row):
                return Refused(row)
            self._rows[key] = change(row)
            return Granted(self._rows[key])


def _identity(row: Session | None) -> object:
    return row and (row.state, row.claim_id, row.expires_at)


def _same_run(row: Session, session: Session) -> bool:
    return row.claim_id == session.claim_id and row.run_id == session.run_id


def _files(row: Session, session: Session, hydrated: Mapping[str, str]) -> dict[str, Any]:
    """Returns what the row says of files once these are in the sandbox."""
    return {
        "hydrated": {**row.hydrated, **hydrated},
        "fresh_files": row.fresh_files - session.fresh_files,
    }


def _closing(row: Session, now: datetime, claim_until: datetime, reason: EndReason | None) -> Session:
    return replace(row, state=SessionState.CLOSING, claim_until=claim_until, expires_at=now, end_reason=reason)


@dataclass(slots=True)
class MemorySweepStore:
    """`SweepStore` in an attribute."""

    sweep: Sweep = field(default_factory=Sweep)

    def read(self) -> Sweep:
        """See `SweepStore.read`."""
        return self.sweep

    def write(self, sweep: Sweep) -> None:
        """See `SweepStore.write`."""
        self.sweep = sweep
