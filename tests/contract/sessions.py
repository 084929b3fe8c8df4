"""What the suites of `SessionStore` share: rows to start from, all of its writes, and the stores it runs on."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest

from sandkeeper.adapters.dynamodb import DynamoSessionStore, Table
from sandkeeper.adapters.memory import MemorySessionStore
from sandkeeper.model import ChatKey, EndReason, Session
from sandkeeper.ports import Granted, Refused, SessionStore
from tests.contract.conftest import Backend
from tests.factories import LEASE, SESSION_TIMEOUT, WINDOW, busy, closing, creating, idle
from tests.world import CHAT, START

NOW = START
LATER = NOW + timedelta(seconds=7)
OWN = busy()
"""The session as `run-1`, which makes the writes below, last saw it."""
ADDED = {"file-1": "/home/user/a.csv"}
"""The file that `run-1` has put into the sandbox."""
ODD_OWNERS = ["auth0|x", "a#b", ".", "..", "#", "two words", "žluťoučký 🐎", "a/b%2F+c"]
ODD_CHATS = ["." * 128, ".:_-" * 32, "-" * 128, "::", "_", ".."]

T = TypeVar("T")
V = TypeVar("V")

# Whatever is due at NOW is past: `_until` and `expires_at` name the first moment that is not theirs any more.
ROWS: dict[str, Session] = {
    "creating": creating(),
    "creator dead": creating(claim_until=NOW),
    "creator dead, expired": creating(claim_until=NOW, run_until=NOW, expires_at=NOW),
    "creating, expired": creating(run_until=NOW, expires_at=NOW),
    "creating after another": creating(claim_id="claim-2", generation=2),
    "taken over": creating(run_id="run-2"),
    "idle": idle(),
    "busy": busy(),
    "busy with another run": busy(run_id="run-2"),
    "busy in another generation": busy(claim_id="claim-2", generation=2),
    "unattended": busy(run_until=NOW),
    "expired": idle(expires_at=NOW),
    "expired, unattended": busy(run_until=NOW, expires_at=NOW),
    "expired, busy": busy(expires_at=NOW),
    "closing": closing(),
    "closing another": closing(claim_id="claim-2", generation=2),
    "closer dead": closing(claim_until=NOW),
    "expiring, cleaner dead": closing(claim_until=NOW, run_id=None, run_until=None, end_reason=EndReason.EXPIRED),
}
NO_SESSION = {"absent", "closed"}
CLOSING = {"closing", "closing another"}
LEASED = {"busy", "unattended", "expired, unattended", "expired, busy"}
"""The rows of which `run-1` has the lease."""


def claim(store: SessionStore, run_id: str = "run-3", at: timedelta = timedelta(0)) -> Granted | Refused:
    """Claims the session as a call whose clock is `at` behind NOW."""
    now = NOW + at
    return store.claim(CHAT, run_id=run_id, now=now, run_until=now + LEASE, expires_at=now + SESSION_TIMEOUT)


def leave(store: SessionStore, session: Session) -> bool:
    """Leaves the session's run, before which a file was put into its sandbox."""
    return store.leave(session, now=LATER, hydrated=ADDED)


def release(store: SessionStore, session: Session, *, ran: bool = True) -> bool:
    """Gives the session back after a run that put a file into its sandbox."""
    return store.release(session, now=LATER, ran=ran, expires_at=LATER + SESSION_TIMEOUT, hydrated=ADDED)


def begin_close(store: SessionStore) -> Granted | Refused:
    """Closes the session as its caller does."""
    return store.begin_close(CHAT, now=NOW, claim_until=NOW + WINDOW)


def begin_expire(store: SessionStore, at: timedelta = timedelta(0)) -> Granted | Refused:
    """Expires the session as a cleanup whose clock is `at` behind NOW."""
    return store.begin_expire(CHAT, now=NOW + at, claim_until=NOW + at + WINDOW)


Write = Callable[[SessionStore], Granted | Refused | bool | None]
WRITES: dict[str, Write] = {
    "claim": claim,
    "claim again": lambda store: claim(store, "run-1"),
    "activate": lambda store: store.activate(OWN),
    "abandon": lambda store: store.abandon(OWN, now=LATER),
    "leave": lambda store: leave(store, OWN),
    "note_sandbox": lambda store: store.note_sandbox(replace(OWN, pauses_at=LATER)),
    "release": lambda store: release(store, OWN),
    "begin_close": begin_close,
    "begin_expire": begin_expire,
    "end": lambda store: store.end(OWN, forget_at=NOW + timedelta(days=30)),
}
ALLOWED: dict[str, set[str]] = {
    "claim": {"idle"},
    "claim again": {"idle", "unattended"},
    "activate": {"creating", "creator dead", "creator dead, expired", "creating, expired"},
    "abandon": {"creating", "creator dead", "creator dead, expired", "creating, expired"},
    "leave": LEASED,
    "note_sandbox": LEASED | {"idle", "busy with another run", "expired"},
    "release": LEASED,
    "begin_close": set(ROWS) - CLOSING,
    "begin_expire": {
        "creator dead, expired",
        "expired",
        "expired, unattended",
        "expired, busy",
        "closer dead",
        "expiring, cleaner dead",
    },
    "end": {"closing", "closer dead", "expiring, cleaner dead"},
}
CASES = [(write, row) for write in WRITES for row in [*ROWS, *sorted(NO_SESSION)]]


def arrange(store: SessionStore, row: Session) -> Session:
    """Writes the row, whatever its state, and returns it as the store tells it."""
    assert isinstance(store.begin(row, seen=store.read(row.key)), Granted)
    return read(store, row.key)


def arrange_closed(store: SessionStore, session: Session | None = None) -> Session:
    """Leaves a closed session behind, and returns its row."""
    row = arrange(store, session or closing(end_reason=EndReason.CLOSED))
    assert store.end(row, forget_at=NOW + timedelta(days=30))
    return read(store, row.key)


def arrange_many(store: SessionStore, rows: list[Session]) -> None:
    """Writes rows of chats that have none yet."""
    assert all(isinstance(outcome, Granted) for outcome in at_once(rows, lambda row: store.begin(row, seen=None)))


def read(store: SessionStore, key: ChatKey = CHAT) -> Session:
    """Returns the row, which must be there."""
    row = store.read(key)
    assert row is not None
    return row


def granted(outcome: Granted | Refused) -> Session:
    """Returns the row that a granted write left."""
    assert isinstance(outcome, Granted), outcome
    return outcome.session


def winner(outcomes: list[Granted | Refused]) -> Session:
    """Returns the row that the one granted write of a race left."""
    won = [outcome.session for outcome in outcomes if isinstance(outcome, Granted)]
    assert len(won) == 1, f"{len(won)} of {len(outcomes)} writes were granted"
    return won[0]


def at_once(values: Sequence[V], work: Callable[[V], T]) -> list[T]:
    """Returns what `work` gives for each value, done side by side."""
    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(work, values))


def due(store: SessionStore, *, days: int = 0) -> list[ChatKey]:
    """Returns what all shards hold that is due that long after NOW."""
    now = NOW + timedelta(days=days)
    return [key for shard in store.shards() for key in store.expired(shard, now=now)]


def live(store: SessionStore) -> list[ChatKey]:
    """Returns what all shards hold."""
    return [key for shard in store.shards() for key in store.live(shard)]


class InMemory:
    """A suite's store: in memory."""

    @pytest.fixture
    def store(self) -> SessionStore:
        """A fresh store."""
        return MemorySessionStore()


class InDynamoDB:
    """A suite's store: on the table of a subclass, which tests may also write to by hand."""

    @pytest.fixture
    def store(self, table: Table) -> SessionStore:
        """A fresh store."""
        return DynamoSessionStore(table)


class OnMoto(InDynamoDB):
    """A suite's store: on moto."""

    @pytest.fixture
    def table(self, moto: Backend) -> Table:
        """A fresh table."""
        return moto.table


class OnMinistack(InDynamoDB):
    """A suite's store: on ministack."""

    @pytest.fixture
    def table(self, ministack: Backend) -> Table:
        """A fresh table."""
        return ministack.table
