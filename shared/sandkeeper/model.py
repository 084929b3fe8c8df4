"""The values that Sandkeeper speaks of. Frozen, and without I/O.

Times are aware UTC with millisecond precision, because that is what a row keeps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

HOME = "/home/user"
"""The home directory of a sandbox: a kernel's working directory, and where a chat's files are put."""

CHAT_ID_PATTERN = r"^[A-Za-z0-9._:-]{1,128}$"
MAX_CODE_CHARS = 50_000

ALL_FILES = "*"
"""Stands for whatever files the chat has, where a session has not looked yet."""

Clock = Callable[[], datetime]
"""Returns now. Passed in everywhere, so that tests decide what time it is."""

NewId = Callable[[], str]
"""Returns an identifier that was never returned before (a ULID outside tests)."""


def utc_now() -> datetime:
    """Returns the current time in UTC, cut to whole milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def utc_moment(epoch_ms: int) -> datetime:
    """Returns the time of epoch milliseconds, in UTC."""
    return datetime.fromtimestamp(epoch_ms // 1000, UTC) + timedelta(milliseconds=epoch_ms % 1000)


@dataclass(frozen=True, slots=True)
class ChatKey:
    """One chat of one owner. The owner is part of every address, so no filter can leak across owners."""

    owner: str
    chat_id: str


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────────


class SessionState(StrEnum):
    """What a session's row says: `creating` → `ready` → `closing` → `closed`, and round again."""

    CREATING = "creating"
    READY = "ready"
    CLOSING = "closing"
    CLOSED = "closed"


class EndReason(StrEnum):
    """Why the state of earlier calls is no more."""

    CLOSED = "closed"
    """A caller closed it: state was given up knowingly."""
    EXPIRED = "expired"
    """Nobody used it for the session timeout."""
    FORCED = "forced"
    """An operator ended all sessions of the stack."""
    SANDBOX_LOST = "sandbox_lost"
    """The sandbox vanished before its time, or nobody could say any more which one it was."""
    RESTARTED = "restarted"
    """A caller restarted the kernel: variables went, files and sandbox stayed."""
    KERNEL_DIED = "kernel_died"
    """The kernel ended, by the code's doing or for want of memory: variables went, files and sandbox stayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRef:
    """All that is needed to talk to a running sandbox without asking E2B's control plane first."""

    sandbox_id: str
    domain: str | None
    envd_version: str
    envd_token: str | None = field(default=None, repr=False)
    traffic_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A chat's session, as its row tells it.

    `claim_id` names the one sandbox that this generation may have: it is drawn when a generation
    begins, survives the take-over of a dead creator's claim, and makes the sandbox's creation idempotent.
    """

    key: ChatKey
    state: SessionState
    generation: int
    claim_id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    claim_until: datetime | None = None
    """While `creating` or `closing`: until when others leave that work to whoever began it."""
    sandbox: SandboxRef | None = None
    pauses_at: datetime | None = None
    """E2B's own deadline for the sandbox, as last set: then it is paused, or killed where pausing is off.

    Written after E2B has moved it, so the true deadline may lie later, never earlier.
    """
    run_id: str | None = None
    """The lease: the one run that may use the session. It ends with the run, by whoever sees that first."""
    run_until: datetime | None = None
    """Until when others leave it to the run's own call to see its end."""
    run_count: int = 0
    hydrated: Mapping[str, str] = field(default_factory=dict)
    """File id → path, for the files that the sandbox has."""
    fresh_files: frozenset[str] = frozenset()
    """Ids of files that have become ready since a call last put all of the chat's files into the sandbox.

    `ALL_FILES` is among them until one has.
    """
    predecessor_id: str | None = None
    """While `creating`: the sandbox of the generation before, still to be killed."""
    end_reason: EndReason | None = None
    """Why the generation before this one ended; once `closing` or `closed`, why this one did."""
    untold: EndReason | None = None
    """Why variables are gone of which a run was told whose caller has not heard of it: the next one is."""
    unreadable: bool = False
    """The row is none that this code writes: only what could be made of it is here, and nobody may use it."""
    stamp: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the store recognises the unchanged row by."""

    @property
    def status(self) -> "SessionStatus":
        """Returns what a caller is told: is the state of earlier calls there?

        Until a run has been completed in it a session counts as fresh: whoever created it may have died
        before telling anybody.
        """
        if self.run_count:
            return "reused"
        return "new" if self.reset_reason is None else "recreated"

    @property
    def reset_reason(self) -> EndReason | None:
        """Returns why earlier state is gone; None when there was none, or a caller gave it up knowingly."""
        if self.run_count:
            return self.untold
        return None if self.end_reason is EndReason.CLOSED else self.end_reason

    def is_live(self, now: datetime) -> bool:
        """Returns whether the session has a sandbox that a caller may count on."""
        return self.state is SessionState.READY and self.expires_at > now

    @property
    def is_busy(self) -> bool:
        """Whether a run has the session, for all that is known: it may have ended with nobody looking."""
        return self.run_id is not None

    def is_attended(self, now: datetime) -> bool:
        """Returns whether the call that began the run is still there to see its end."""
        return self.run_until is not None and self.run_until > now

    def is_claimed(self, now: datetime) -> bool:
        """Returns whether somebody is creating or closing it, and is not taken for dead."""
        transient = self.state in (SessionState.CREATING, SessionState.CLOSING)
        return transient and self.claim_until is not None and self.claim_until > now


SessionStatus = Literal["new", "reused", "resumed", "recreated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long things last."""

    session_timeout: timedelta
    """A session ends this long after its last use."""
    idle_pause: timedelta = timedelta(minutes=5)
    """A sandbox pauses this long after its last use; zero: never."""
    claim_window: timedelta = timedelta(seconds=30)
    """A creator or closer that takes longer is taken for dead."""
    sandbox_slack: timedelta = timedelta(minutes=5)
    """Where sandboxes never pause, E2B's deadline lies this far behind the session's end."""
    lease_margin: timedelta = timedelta(seconds=15)
    """A call is taken for dead this long after its time is over. Clocks may differ by less than this."""
    cover_margin: timedelta = timedelta(seconds=10)
    """E2B's deadline lies at least this far behind the limit of a run that begins."""
    tombstone: timedelta = timedelta(days=30)
    """How long a closed session is remembered, so that its next caller learns of the loss."""

    @property
    def claim_life(self) -> timedelta:
        """For so long others may go on with a dead creator's claim; after that they begin a generation anew."""
        return 2 * self.claim_window

    def sandbox_lifetime(self, run_limit: timedelta) -> timedelta:
        """Returns for how long E2B is to leave a sandbox running whose next run has this limit."""
        if self.idle_pause:
            return run_limit + self.idle_pause
        return run_limit + self.session_timeout + self.sandbox_slack

    def worth_moving(self, run_limit: timedelta) -> timedelta:
        """Returns how near E2B's deadline has to be before a call moves it.

        A little idle time is given up for it: else every call of a busy chat would move the deadline.
        """
        if self.idle_pause:
            return run_limit + self.idle_pause * 4 / 5
        return run_limit + self.session_timeout


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


class FileStatus(StrEnum):
    """`pending` until its content has been read; then `ready`, or `failed` with a reason."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class FileKind(StrEnum):
    """What a file is by its content, whatever its name says."""

    CSV = "csv"
    """Delimited text: the delimiter may be any of the usual ones."""
    EXCEL = "excel"
    PARQUET = "parquet"
    JSON = "json"
    JSON_LINES = "json_lines"
    TEXT = "text"
    IMAGE = "image"
    PDF = "pdf"
    ZIP = "zip"
    OTHER = "other"


ColumnType = Literal["integer", "number", "boolean", "date", "datetime", "time", "text", "json", "empty"]
"""`json`: lists or records; `empty`: no value in any row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table. `nulls` is how many rows have no value in it."""

    name: str
    type: ColumnType
    nulls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table in a file: what a model has to know to write code for it.

    `name` is a sheet's, None where the file is one table. `sample` is the first few rows; a cell is a JSON value,
    long text cut. `row_count` is without the header.
    """

    name: str | None = None
    columns: Sequence[Column]
    row_count: int
    sample: Sequence[Sequence[Any]] = ()

    @property
    def headers(self) -> Sequence[str]:
        """The columns' names."""
        return [column.name for column in self.columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """What reading a file's content gave. A file that holds no table has no `tables`.

    `details` says what else there is to know, by kind: a CSV's `encoding` and `delimiter`, an image's `width` and
    `height`, a PDF's `pages`, a zip's `entries`. All of it fits into one row.
    """

    size_bytes: int
    kind: FileKind = FileKind.OTHER
    tables: Sequence[Table] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What is known of a chat's file. `size_bytes` is as declared, then as measured."""

    key: ChatKey
    file_id: str
    name: str
    path: str
    size_bytes: int
    content_type: str
    created_at: datetime
    status: FileStatus = FileStatus.PENDING
    reason: str | None = None
    replaces: bool = False
    """Once it is ready it takes the place of the file that has its path, which stays as it is until then."""
    replaced_id: str | None = None
    """Which file that was."""
    kind: FileKind | None = None
    """None until the content has been read."""
    tables: Sequence[Table] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> Sequence[str] | None:
        """The first table's columns."""
        return self.tables[0].headers if self.tables else None

    @property
    def row_count(self) -> int | None:
        """The first table's rows."""
        return self.tables[0].row_count if self.tables else None


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """A presigned POST: send `fields` and then the file, as multipart form data, to `url`."""

    url: str
    fields: Mapping[str, str] = field(repr=False)


# ── Runs ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Stream:
    """Text that a program wrote to stdout or stderr."""

    name: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class Display:
    """One displayed object in every form that the kernel gave: MIME type → text, base64 or JSON value."""

    data: Mapping[str, Any]
    is_main_result: bool = False


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that the program did not catch. The traceback may carry ANSI colours."""

    name: str
    value: str
    traceback: str


Output = Stream | Display | Raised


class RunEnd(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    """By itself, with or without an exception."""
    TIMEOUT = "timeout"
    """At its limit: the kernel was interrupted and keeps its variables."""
    CANCELLED = "cancelled"
    """A caller stopped it: the kernel was interrupted and keeps its variables."""
    OUTPUT_LIMIT = "output_limit"
    """It put out more than it may: the kernel was interrupted and keeps its variables."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel was killed for want of memory: variables are gone, files are there."""
    KERNEL_DIED = "kernel_died"
    """The kernel ended under the code, or was restarted: variables are gone, files are there."""
    SANDBOX_LOST = "sandbox_lost"
    """Nobody can tell what became of it: how far it came is unknown."""


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that a run has created or changed. `path` is absolute, below `HOME`."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What a run has done to the files in its sandbox, as far as that was looked at and is told."""

    files: Sequence[ChangedFile] = ()
    more: int = 0
    """How many others have changed."""
    all_seen: bool = True
    """False when there are too many files for all to be looked at."""


NO_CHANGES = Changes()


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run gave, in the order in which it appeared, also when it did not finish."""

    outputs: Sequence[Output]
    end: RunEnd
    changes: Changes = NO_CHANGES


# ── Artifacts ───────────────────────────────────────────────────────────────────────────────────────


class ArtifactStatus(StrEnum):
    """Where a file that a run has created or changed can be had."""

    STORED = "stored"
    """From the artifacts' store, also when the sandbox is gone."""
    PENDING = "pending"
    """From the sandbox only: whoever asks next for the run or uses its session stores it."""
    SKIPPED = "skipped"
    """From the sandbox only, for a reason that is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a run has created or changed, as it was at the run's end."""

    key: ChatKey
    artifact_id: str
    execution_id: str
    path: str
    size_bytes: int
    mime_type: str
    created_at: datetime
    status: ArtifactStatus = ArtifactStatus.PENDING
    reason: str | None = None
    """Why it is `skipped`."""
    address: str | None = None
    """Where its content lies, once it is `stored`."""


# ── API keys ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: by the SHA-256 of its token, never the token itself."""

    token_hash: str
    owner: str
    name: str
    created_at: datetime
    last_used_day: str | None = None
    """ISO date; written at most once a day."""
