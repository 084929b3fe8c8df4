"""What the services need from the outside world, and no more.

Each Protocol is owned by the services that call it. Its docstrings say what missing, repeated and concurrent
calls do and which errors come out; one contract suite per port holds every adapter to them. Every method may
raise `StoreUnavailable` (stores) or `SandboxUnavailable`, `CapacityExhausted` and `NotConfigured` (sandboxes).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from sandkeeper.model import (
    ApiKey,
    Artifact,
    ChatKey,
    EndReason,
    FileReading,
    FileRecord,
    SandboxRef,
    Session,
    UploadTicket,
)
from sandkeeper.runs import Cancelled, Execution, RunEvent, RunOrder
from sandkeeper.summary import RunSummary


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """What a new sandbox is to be. Equal specs give one sandbox, however often asked."""

    idempotency_key: str
    lifetime: timedelta
    pauses: bool
    """At the end of its lifetime the sandbox is paused, not killed."""
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A sandbox as the provider lists it."""

    sandbox_id: str
    started_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SandboxPage:
    """Part of a list of sandboxes; `token` leads to the next part, None behind the last."""

    sandboxes: Sequence[Listed]
    token: str | None


class SandboxGone(Exception):
    """The sandbox is paused or does not exist, and no code was started in it. `connect` tells which."""


class RunLost(SandboxGone):
    """The same, but a run had been asked for before: whether its code was started, nobody knows."""


class RunUnknown(Exception):
    """The sandbox is there, and has no such run."""


class SandboxProvider(Protocol):
    """Sandboxes: made, used by their coordinates, and killed by id. `within` bounds how long a call may take."""

    def create(self, spec: SandboxSpec, *, within: timedelta) -> SandboxRef:
        """Creates a sandbox, or returns the one that an equal `spec` has created before."""
        ...

    def connect(self, sandbox_id: str, lifetime: timedelta, *, within: timedelta) -> SandboxRef:
        """Returns the sandbox's coordinates, once it runs and its deadline is at least `lifetime` from now.

        A paused sandbox goes on with its memory and files. Raises `SandboxGone` when there is none any more.
        """
        ...

    def extend(self, sandbox_id: str, lifetime: timedelta) -> None:
        """Moves a running sandbox's deadline to `lifetime` from now. Raises `SandboxGone`."""
        ...

    def page(self, metadata: Mapping[str, str], *, limit: int, token: str | None = None) -> SandboxPage:
        """Returns part of the sandboxes, running and paused, that have this metadata; those made first come first.

        Begins where `token` leads.
        """
        ...

    def kill(self, sandbox_id: str) -> None:
        """Ends the sandbox. One that is gone already is as good as killed."""
        ...

    def prepare(self, sandbox: SandboxRef) -> None:
        """Makes the sandbox ready for runs, which they do by themselves else. Raises `SandboxGone`."""
        ...

    def run(self, sandbox: SandboxRef, order: RunOrder, *, wait: timedelta) -> Iterator[RunEvent]:
        """Starts the run, or finds it, and yields its events as they come: to its end, or for this time.

        Goes on without anybody who listens. Events may be missing at the end, and all of them where the sandbox
        does not answer: asking again is harmless. Raises `SandboxGone` or `SandboxUnavailable` before the first
        event, if the code has surely not started, and else `RunLost`.
        """
        ...

    def follow(self, sandbox: SandboxRef, run_id: str, *, after: int, wait: timedelta) -> Iterator[RunEvent]:
        """Yields the events of a run behind the number `after`, as they come: to its end, or for this time.

        Raises `RunUnknown`, `SandboxGone` and `SandboxUnavailable`.
        """
        ...

    def cancel(self, sandbox: SandboxRef, run_id: str | None = None) -> Cancelled:
        """Stops this run, or whatever runs; returns once it has ended, or does not react.

        Raises `RunUnknown`, `SandboxGone`.
        """
        ...

    def restart_kernel(self, sandbox: SandboxRef) -> None:
        """Returns once the sandbox has a fresh kernel; code that was running has ended. Raises `SandboxGone`.

        The next run is told.
        """
        ...

    def packages(self, sandbox: SandboxRef) -> Mapping[str, str]:
        """Returns name → version of the Python packages that code in the sandbox can import. Raises `SandboxGone`.

        The kernel is not asked, so that a run under way does not matter.
        """
        ...

    def write_file(self, sandbox: SandboxRef, path: str, content: Iterable[bytes]) -> None:
        """Streams `content` to `path`, making its folders. Raises `SandboxGone`."""
        ...

    def read_file(self, sandbox: SandboxRef, path: str) -> Iterator[bytes]:
        """Opens the file and returns its chunks.

        Raises `FileNotFound`, also for what is no file, and `SandboxGone`.
        """
        ...

    def delete_file(self, sandbox: SandboxRef, path: str) -> None:
        """Removes the file, if it is there. Raises `SandboxGone`."""
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


@dataclass(frozen=True, slots=True)
class Reservation:
    """Which run a caller's idempotency key stands for, and what was asked for."""

    execution_id: str
    digest: str


class RunLog(Protocol):
    """What is known of chats' runs outside their sandboxes. Every record is kept for 30 days."""

    def reserve(self, owner: str, idempotency_key: str, reservation: Reservation, *, now: datetime) -> Reservation:
        """Returns what the owner's key stands for: this, unless it stands for something already."""
        ...

    def open(self, execution: Execution) -> bool:
        """Adds a run of which the end is to come. Returns False, and writes nothing, when there is a record."""
        ...

    def withdraw(self, execution: Execution) -> None:
        """Removes a run that was opened so and is surely not to begin. Does nothing to any other record."""
        ...

    def finish(self, execution: Execution) -> bool:
        """Records a run that has ended. Returns False, and writes nothing, when its end has been recorded."""
        ...

    def get(self, key: ChatKey, execution_id: str) -> Execution | None:
        """Returns the run as the last write left it: with all its events if it has ended, else with none."""
        ...

    def latest(
        self, key: ChatKey, *, since: datetime, limit: int, before: str | None = None
    ) -> Sequence[RunSummary]:
        """Returns the chat's runs that were begun after `since` in brief, the highest id first, as last written.

        Those with ids below `before`, at most `limit` of them; fewer mean that there are no more.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageList:
    """The Python packages that a sandbox had: name → version."""

    packages: Mapping[str, str]
    run_count: int
    """How many runs the sandbox had seen: each may have installed something."""
    told_at: datetime


class PackageLists(Protocol):
    """What is known of the packages of each template that sandboxes are made from. Kept for 30 days."""

    def recall(self, template: str) -> PackageList | None:
        """Returns what was kept for the template."""
        ...

    def keep(self, template: str, known: PackageList) -> None:
        """Keeps the list in place of the one before."""
        ...


class ArtifactCatalog(Protocol):
    """What is known of the files that runs have left behind. Every record is kept for 30 days."""

    def add(self, artifacts: Sequence[Artifact]) -> Sequence[Artifact]:
        """Adds the artifacts of one run. Returns what is known of that run's: these, unless others came first."""
        ...

    def of_run(self, key: ChatKey, execution_id: str) -> Sequence[Artifact]:
        """Returns the run's artifacts, none for a run that is not known to have any."""
        ...

    def of_chat(self, key: ChatKey) -> Sequence[Artifact]:
        """Returns the chat's artifacts as the last writes left them: those of the latest run first."""
        ...


class ArtifactContents(Protocol):
    """The bytes of artifacts."""

    def write(self, artifact: Artifact, content: Iterator[bytes]) -> str:
        """Keeps the content, in bounded memory, and returns where it lies: a place of its own, however often asked.

        Whatever `content` raises comes out, and then nothing is kept.
        """
        ...

    def presign(self, artifact: Artifact, *, lasts: timedelta) -> str:
        """Returns a URL that gives the stored content to whoever has it, as a download of the file's name."""
        ...


class FileCatalog(Protocol):
    """The records of chats' files."""

    def add(self, record: FileRecord) -> bool:
        """Adds the record. Returns False, and writes nothing, when another file has its path.

        One that `replaces` takes its path only when it is ready.
        """
        ...

    def get(self, key: ChatKey, file_id: str) -> FileRecord | None:
        """Returns the record as the last write left it."""
        ...

    def of_chat(self, key: ChatKey) -> Sequence[FileRecord]:
        """Returns the chat's records, oldest first."""
        ...

    def mark_ready(self, key: ChatKey, file_id: str, reading: FileReading) -> bool:
        """Records what reading the content gave. Returns False when the file has been deleted.

        Of one that `replaces`, the record of the file that has its path is removed in the same write, and its id is
        noted as `replaced_id`: of any number of such files the one that was ready last has the path.
        """
        ...

    def mark_failed(self, key: ChatKey, file_id: str, reason: str) -> bool:
        """Records why the content is of no use. Returns False when the file has been deleted."""
        ...

    def delete(self, record: FileRecord) -> None:
        """Removes the record and frees its path, if it has that. Removing what is gone does nothing."""
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


@dataclass(frozen=True, slots=True)
class Link:
    """Where something is to be downloaded by whoever has the URL, for a while."""

    url: str = field(repr=False)
    size_bytes: int
    expires_in: timedelta


class ResultStore(Protocol):
    """Results that are too large for a reply. Kept for 30 days."""

    def keep(self, key: ChatKey, content: bytes, mime_type: str) -> Link:
        """Keeps the content, and returns a new link to it. Equal contents of a chat are kept once."""
        ...


class Unreadable(Exception):
    """The content is damaged, over a limit, or not what the file's name says. The message names file and fix."""


class ContentReader(Protocol):
    """Says what a file holds."""

    def __call__(self, content: Iterable[bytes], *, name: str, content_type: str) -> FileReading:
        """Returns what the content holds, whatever the name and the type say. Raises `Unreadable`.

        That is all that content can do: it cannot crash, block or starve the reader. Errors of `content` itself
        come out as they are.
        """
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


class ApiKeyRegister(Protocol):
    """All API keys, for whoever runs the deployment. No function lists them."""

    def all(self) -> Iterable[ApiKey]:
        """Returns every key, in any order. It may read everything that is stored to find them."""
        ...

    def put(self, api_key: ApiKey) -> None:
        """See `ApiKeyStore.put`."""
        ...

    def delete(self, token_hash: str) -> None:
        """Removes the key. Does nothing for one that is gone."""
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
