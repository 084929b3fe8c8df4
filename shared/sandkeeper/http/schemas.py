"""What goes over the wire: camelCase there, snake_case here."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from sandkeeper.model import CHAT_ID_PATTERN, ColumnType, FileKind, FileRecord, FileStatus, Table, UploadTicket
from sandkeeper.services.control import SessionInfo

ChatId = Annotated[
    str,
    StringConstraints(pattern=CHAT_ID_PATTERN),
    Field(description="Names the chat, and with it the session.", examples=["chat-123"]),
]
FileId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$"),
    Field(description="A file's id, as its registration returned it.", examples=["01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z"]),
]


class Wire(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


SCHEMAS = "#/components/schemas/{model}"
"""Where the document has the schemas of bodies."""


def event_stream(events: str) -> dict[str, Any]:
    """Returns how a stream of server-sent events is documented, whose data the schema of this name tells.

    OpenAPI 3.1 itself knows only that it is text.
    """
    content = {"schema": {"type": "string"}, "x-events": {"$ref": SCHEMAS.format(model=events)}}
    return {"content": {"text/event-stream": content}, "description": f"Events, see `{events}`."}


# ── Status ──────────────────────────────────────────────────────────────────────────────────────────


class StatusReply(Wire):
    """Whether the chat has a live session."""

    exists: bool
    sandbox_id: str | None
    expires_in: int | None = Field(description="In milliseconds.")

    @classmethod
    def of(cls, info: SessionInfo | None) -> "StatusReply":
        """Returns the session as it goes over the wire."""
        if info is None or info.session.sandbox is None:
            return cls(exists=False, sandbox_id=None, expires_in=None)
        return cls(
            exists=True,
            sandbox_id=info.session.sandbox.sandbox_id,
            expires_in=round(info.expires_in.total_seconds() * 1000),
        )


# ── Files ───────────────────────────────────────────────────────────────────────────────────────────


class FileRequest(Wire):
    """A file that is about to be uploaded."""

    file_name: str = Field(min_length=1, max_length=1_000, examples=["employee_data.csv"])
    size: int = Field(ge=1, description="In bytes. The upload may not be larger.", examples=[1024])
    content_type: str = Field(
        default="application/octet-stream",
        pattern=r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}$",
        examples=["text/csv"],
    )
    replace: bool = Field(
        default=False,
        strict=True,
        description="Let the file take the place of the chat's file of this name, once it has been read. Else it"
        " gets a path of its own.",
    )


class UploadSchema(Wire):
    """Where to upload: send `fields`, then the file as `file`, as multipart form data to `url`."""

    url: str
    fields: dict[str, str]

    @classmethod
    def of(cls, ticket: UploadTicket) -> "UploadSchema":
        """Returns the ticket as it goes over the wire."""
        return cls(url=ticket.url, fields=dict(ticket.fields))


class ColumnSchema(Wire):
    """A column of a table."""

    name: str
    type: ColumnType = Field(description="`json`: lists or records; `empty`: no row has a value.")
    nulls: int = Field(description="How many rows have no value, as `pandas` counts them.")


class TableSchema(Wire):
    """A table in a file."""

    name: str | None = Field(description="A sheet's name.")
    columns: Sequence[ColumnSchema]
    row_count: int = Field(description="Without the header.")
    sample: Sequence[Sequence[Any]] = Field(description="The first rows, long text cut.")

    @classmethod
    def of(cls, table: Table) -> "TableSchema":
        """Returns the table as it goes over the wire."""
        columns = [ColumnSchema(name=column.name, type=column.type, nulls=column.nulls) for column in table.columns]
        return cls(name=table.name, columns=columns, row_count=table.row_count, sample=table.sample)


class FileSchema(Wire):
    """A file of the chat, and what it holds once it has been read."""

    file_id: FileId
    name: str
    path: str = Field(description="Where the file is in the sandbox.")
    size: int = Field(description="In bytes.")
    content_type: str
    status: FileStatus
    reason: str | None = Field(description="Why a `failed` file cannot be used.")
    kind: FileKind | None = Field(description="What the content is, whatever the name says; null until read.")
    tables: Sequence[TableSchema] = Field(
        description="A CSV, JSON or Parquet file has one, a workbook one a sheet."
    )
    details: Mapping[str, Any] = Field(
        description="What else there is to know, by kind: `encoding`, `delimiter`, `sheets`, `records`, `lines`, "
        "`width` and `height`, `pages`, `entries`. `cut` says what was left out of `tables`."
    )
    headers: Sequence[str] | None = Field(description="The first table's columns.")
    row_count: int | None = Field(description="The first table's rows, without the header.")
    created_at: AwareDatetime

    @classmethod
    def of(cls, record: FileRecord) -> "FileSchema":
        """Returns the record as it goes over the wire."""
        return cls(
            file_id=record.file_id,
            name=record.name,
            path=record.path,
            size=record.size_bytes,
            content_type=record.content_type,
            status=record.status,
            reason=record.reason,
            kind=record.kind,
            tables=[TableSchema.of(table) for table in record.tables],
            details=record.details,
            headers=record.headers,
            row_count=record.row_count,
            created_at=record.created_at,
        )


class RegisteredFile(Wire):
    """A registered file, and where to upload its content."""

    file_id: FileId
    path: str
    upload: UploadSchema


class FileList(Wire):
    """The chat's files, oldest first."""

    files: list[FileSchema]


class Health(Wire):
    """That the service is up, and which version of it."""

    status: Literal["ok"]
    version: str
