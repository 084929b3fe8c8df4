"""What the services need from the outside world, and no more.

Each Protocol is owned by the services that call it. Its docstrings say what missing, repeated and concurrent
calls do and which errors come out; one contract suite per port holds every adapter to them. Every method may
raise `StoreUnavailable` (stores) or `SandboxUnavailable`, `CapacityExhausted` and `NotConfigured` (sandboxes).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sandkeeper.model import (
    ApiKey,
    ChatKey,
    EndReason,
    FileReading,
    FileRecord,
    RunOutcome,
    SandboxRef,
    Session,
    UploadTicket,
)


@dataclass(frozen=True, slots=True)
class Granted:
    """The conditional write took place; `session` is the row after it."""

    session: Session


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
        """Takes the busy lease of a live session that nobody is using, and pushes its expiry.

        Of any number of concurrent claims one is granted.
        """
        ...

    def begin(self, session: Session, *, seen: Session | None) -> Granted | Refused:
        """Writes `session` (`creating`) in place of the row `seen`, unless that row has changed since."""
        ...

    def activate(self, session: Session) -> Granted | Refused:
        """Writes `session` (`ready`) over its own `creating` row: same claim, still creating."""
        ...

    def abandon(self, session: Session, *, now: datetime) -> None:
        """Ends the claim window of this `creating` row at once, so that the next caller takes it over.

        Does nothing when the row has moved on.
        """
        ...

    def release(
        self,
        session: Session,
        *,
        now: datetime,
        ran: bool,
        expires_at: datetime,
        sandbox_until: datetime,
        hydrated: Mapping[str, str],
    ) -> bool:
        """Drops the busy lease `session.run_id`, pushes the expiry and counts the run if it `ran`.

        Adds `hydrated` to the files that the sandbox has; with `session.fresh_files` it is then up to date.
        Returns False, and writes nothing, when the lease is no longer this run's.
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

        Refused unless it is still expired, not in use, and no claim is under way. A row that somebody else
        left `closing` keeps its reason.
        """
        ...

    def end(self, session: Session, *, forget_at: datetime) -> bool:
        """Turns its own `closing` row into a `closed` one that knows no sandbox and is in no index.

        Returns False, and writes nothing, when the row has moved on.
        """
        ...

    def expired(self, *, now: datetime) -> Iterator[ChatKey]:
        """Yields the chats of which the session's row is due, at a cost that grows with their number alone.

        Read from an index that may lag: a hint, to be confirmed by `begin_expire`.
        """
        ...

    def live(self) -> Iterator[ChatKey]:
        """Yields all chats that have a session's row in the index, due or not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a new sandbox is to be. Equal `idempotency_key`s give one sandbox, however often asked."""

    idempotency_key: str
    lifetime: timedelta
    metadata: Mapping[str, str]


class SandboxGone(Exception):
    """The sandbox does not exist, and no code was started in it."""


class SandboxProvider(Protocol):
    """Sandboxes: made, used by their coordinates, and killed by id."""

    def create(self, spec: SandboxSpec) -> SandboxRef:
        """Creates a sandbox, or returns the one that the same key has created before."""
        ...

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """Moves the sandbox's deadline to `lifetime` from now. Raises `SandboxGone`."""
        ...

    def kill(self, sandbox_id: str) -> None:
        """Ends the sandbox. One that is gone already is as good as killed."""
        ...

    def run(self, sandbox: SandboxRef, code: str, *, timeout: timedelta) -> RunOutcome:
        """Runs Python in the sandbox's kernel, once, and returns when it ends or at `timeout`.

        Raises `SandboxGone` or `SandboxUnavailable` only when the code did not start.
        """
        ...

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """Streams `content` to `path`, making its folders. Raises `SandboxGone`."""
        ...

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """Removes the file, if it is there. Raises `SandboxGone`."""
        ...


class FileCatalog(Protocol):
    """The records of chats' files."""

    def add(self, record: FileRecord) -> bool:
        """Adds the record. Returns False, and writes nothing, when another file has its path."""
        ...

    def get(self, key: ChatKey, file_id: str) -> FileRecord | None:
        """Returns the record as the last write left it."""
        ...

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """Returns the chat's records, oldest first."""
        ...

    def mark_ready(self, key: ChatKey, file_id: str, reading: FileReading) -> bool:
        """Records what reading the content gave. Returns False when the file has been deleted."""
        ...

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """Records why the content is of no use. Returns False when the file has been deleted."""
        ...

    def delete(self, record: FileRecord) -> None:
        """Removes the record and frees its path. Removing what is gone does nothing."""
        ...


class FileContents(Protocol):
    """The bytes of chats' files."""

    def presign_upload(self, key: ChatKey, file_id: str, *, max_bytes: int, content_type: str) -> UploadTicket:
        """Returns a ticket that lets its holder upload this one file, of at most this size."""
        ...

    def read(self, key: ChatKey, file_id: str) -> Iterator[bytes]:
        """Opens the content and returns its chunks. Raises `FileNotFound` before the first chunk."""
        ...

    def delete(self, key: ChatKey, file_id: str) -> None:
        """Removes the content. Removing what is gone does nothing."""
        ...


class ApiKeyStore(Protocol):
    """API keys by the hash of their token."""

    def find(self, token_hash: str) -> ApiKey | None:
        """Returns the key, None for one that never was or was revoked."""
        ...

    def put(self, api_key: ApiKey) -> None:
        """Adds the key, in place of one of the same hash."""
        ...

    def mark_used(self, token_hash: str, day: str) -> None:
        """Notes the day of use. Does nothing for a key that is gone."""
        ...


class TokenVerifier(Protocol):
    """Says who a JSON Web Token speaks for."""

    def owner_of(self, token: str) -> str:
        """Returns the token's subject once signature, issuer, audience and times hold.

        Raises `Unauthenticated` otherwise.
        """
        ...


class Journal(Protocol):
    """Where domain events go: log lines and metrics. Never code, contents, names or tokens."""

    def note(self, event: str, **facts: str | int | float) -> None:
        """Records that `event` (`noun.verb`) happened. Never raises."""
        ...
