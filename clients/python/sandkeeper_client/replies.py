"""What else the service tells: of sessions, packages, files, and a chat's context."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandkeeper_client.runs import SessionInRun, Timings
from sandkeeper_client.values import Value

# ── Sessions and packages ───────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Status(Value):
    """Whether the chat has a live session, and for how long."""

    exists: bool
    sandbox_id: str | None
    expires_in: int | None


@dataclass(frozen=True, kw_only=True)
class Session(Value):
    """A live session: `creating`, `idle`, `running` or `paused`."""

    chat_id: str
    state: str
    sandbox_id: str | None
    generation: int
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    run_count: int
    files: Mapping[str, str] | None = None
    """File id → path in the sandbox; not known where sessions are listed."""


@dataclass(frozen=True, kw_only=True)
class Interrupted(Value):
    """Whether there was code to stop."""

    interrupted: bool


@dataclass(frozen=True, kw_only=True)
class Completion(Value):
    """Text that could stand in the code; `kind` is what it names, such as `attribute`, as far as known."""

    text: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Completions(Value):
    """What could stand at a cursor, in the place of the code from `start` to `end`.

    Not `available` where the chat has no kernel awake, or none that answers soon.
    """

    available: bool
    start: int
    end: int
    matches: tuple[Completion, ...]


@dataclass(frozen=True, kw_only=True)
class Package(Value):
    """A Python package; its version is None where that is not known."""

    name: str
    version: str | None


@dataclass(frozen=True, kw_only=True)
class Installed(Value):
    """What pip did. A failure of pip is a result, in its own words."""

    success: bool
    installed: tuple[Package, ...]
    error: str | None
    session: SessionInRun
    timings: Timings


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Column(Value):
    """A column of a table."""

    name: str
    type: str
    nulls: int | None = None
    """How many rows have no value; not known in a context."""


@dataclass(frozen=True, kw_only=True)
class Table(Value):
    """A table in a file; `name` is a sheet's. In a context there is no `sample`."""

    name: str | None
    columns: tuple[Column, ...]
    column_count: int | None = None
    """How many there are in all, in a context, which has the first ones."""
    row_count: int
    sample: tuple[tuple[Any, ...], ...] = ()
    """The first rows."""


@dataclass(frozen=True, kw_only=True)
class File(Value):
    """A file of the chat: `pending`, `ready` with what it holds, or `failed` with the reason."""

    file_id: str
    name: str
    path: str
    """Where it is in the sandbox."""
    size: int
    content_type: str
    status: str
    reason: str | None
    kind: str | None
    tables: tuple[Table, ...]
    details: Mapping[str, Any]
    headers: tuple[str, ...] | None
    row_count: int | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class FileList(Value):
    """The chat's files, oldest first."""

    files: tuple[File, ...]


@dataclass(frozen=True, kw_only=True)
class Upload(Value):
    """Where to send a file's content: `fields`, then the content as `file`."""

    url: str = field(repr=False)
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class RegisteredFile(Value):
    """A file that is about to be uploaded."""

    file_id: str
    path: str
    upload: Upload


# ── Context ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Outlook(Value):
    """What the next run will find."""

    state: str
    has_variables: bool
    reason: str | None
    run_count: int


@dataclass(frozen=True, kw_only=True)
class FileInContext(Value):
    """A file of the chat, in brief."""

    file_id: str
    path: str
    name: str
    status: str
    kind: str | None
    size: int
    tables: tuple[Table, ...]
    table_count: int


@dataclass(frozen=True, kw_only=True)
class Packages(Value):
    """What code can import, and who says so."""

    source: str
    packages: tuple[Package, ...]


@dataclass(frozen=True, kw_only=True)
class Limits(Value):
    """What a run may use."""

    default_timeout_ms: int
    max_timeout_ms: int
    text_bytes: int
    reply_bytes: int


@dataclass(frozen=True, kw_only=True)
class Context(Value):
    """What a model has to know to write code that works in this chat: as `text`, and as data."""

    chat_id: str
    text: str
    session: Outlook
    working_directory: str
    files: tuple[FileInContext, ...]
    packages: Packages
    limits: Limits
    tools: Mapping[str, Any]
    """The execute call as a tool: `anthropic`, `openai`, `openaiResponses`, `bedrock`."""


@dataclass(frozen=True, kw_only=True)
class FilledPrompt(Value):
    """A prompt with the chat's context in it."""

    text: str


@dataclass(frozen=True, kw_only=True)
class MadeNotebook(Value):
    """A notebook, by its id."""

    notebook_id: str


@dataclass(frozen=True, kw_only=True)
class MadeCell(Value):
    """A cell, by its id."""

    cell_id: str


@dataclass(frozen=True, kw_only=True)
class Health(Value):
    """That the service is up, and which version of it."""

    status: str
    version: str
