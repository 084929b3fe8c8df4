"""What goes over the wire: camelCase there, snake_case here."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from sandkeeper.model import (
    CHAT_ID_PATTERN,
    MAX_CODE_CHARS,
    EndReason,
    FileRecord,
    FileStatus,
    Raised,
    RunEnd,
    SessionStatus,
    UploadTicket,
)
from sandkeeper.outputs import ResultItem, ResultType, plain, simple_view
from sandkeeper.services.control import SessionInfo
from sandkeeper.services.execute import RunReply
from sandkeeper.services.stopwatch import Timings

MAX_TIMEOUT_MS = 25_000

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


# ── Execute ─────────────────────────────────────────────────────────────────────────────────────────


class ExecuteRequest(Wire):
    """Python to run in the chat's sandbox."""

    chat_id: ChatId
    code: str = Field(
        min_length=1,
        max_length=MAX_CODE_CHARS,
        description="Python. Variables of earlier calls are there.",
        examples=["import pandas as pd\npd.read_csv('employee_data.csv').shape"],
    )
    file_ids: list[FileId] | None = Field(
        default=None,
        max_length=100,
        description="Which files must be in the sandbox before the code runs; all of the chat's when absent.",
    )
    timeout_ms: int | None = Field(
        default=None,
        ge=1_000,
        le=MAX_TIMEOUT_MS,
        description="Limit for this code, in milliseconds. At the limit the kernel is interrupted; variables stay.",
    )
    on_busy: Literal["wait", "reject"] = Field(
        default="wait", description="What to do while another call uses the session."
    )


class ResultSchema(Wire):
    """One thing that the code showed, in the order of appearance."""

    type: ResultType
    content: Any = Field(description="Text; base64 for PNG, JPEG and PDF; a JSON value for json, chart, table.")
    mime_type: str

    @classmethod
    def of(cls, item: ResultItem) -> "ResultSchema":
        """Returns the item as it goes over the wire."""
        return cls(type=item.type, content=item.content, mime_type=item.mime_type)


class ErrorDetail(Wire):
    """Why the code did not succeed."""

    kind: Literal["user_code", "timeout", "cancelled", "sandbox_lost", "kernel_died"]
    name: str
    value: str
    traceback: str | None
    retryable: bool
    hint: str


class SessionSchema(Wire):
    """What became of the chat's session in this call."""

    status: SessionStatus
    generation: int = Field(description="Counts the chat's sandboxes.")
    state_reset: bool = Field(description="Variables of earlier calls are gone.")
    reason: EndReason | None = Field(description="Why they are gone.")

    @classmethod
    def of(cls, reply: RunReply) -> "SessionSchema":
        """Returns the session as it goes over the wire."""
        reason = reply.session.reset_reason
        return cls(
            status=reply.status,
            generation=reply.session.generation,
            state_reset=reason is not None,
            reason=reason,
        )


class TimingsSchema(Wire):
    """How long each step took, in milliseconds."""

    claim_ms: int
    connect_ms: int
    files_ms: int
    run_ms: int
    release_ms: int

    @classmethod
    def of(cls, timings: Timings) -> "TimingsSchema":
        """Returns the timings as they go over the wire."""
        return cls(
            claim_ms=timings.claim_ms,
            connect_ms=timings.connect_ms,
            files_ms=timings.files_ms,
            run_ms=timings.run_ms,
            release_ms=timings.release_ms,
        )

    def header(self) -> str:
        """Returns the timings as the value of a `Server-Timing` header."""
        steps = {"claim": self.claim_ms, "connect": self.connect_ms, "files": self.files_ms}
        steps |= {"run": self.run_ms, "release": self.release_ms}
        return ", ".join(f"{name};dur={ms}" for name, ms in steps.items())


class ExecuteReply(Wire):
    """What came of the run. A program that raises is a result: `success` is false, and `error` says why."""

    success: bool
    results: list[ResultSchema]
    error: str | None
    execution_time: int = Field(description="The whole call, in milliseconds.")
    sandbox_id: str
    uploaded_files: list[str] = Field(description="Paths of the call's files in the sandbox.")
    expires_in: int = Field(description="When the session ends unless it is used, in milliseconds from now.")
    execution_id: str
    error_detail: ErrorDetail | None
    session: SessionSchema
    timings: TimingsSchema

    @classmethod
    def of(cls, reply: RunReply) -> "ExecuteReply":
        """Returns the reply as it goes over the wire."""
        detail = _error_detail(reply)
        return cls(
            success=detail is None,
            results=[ResultSchema.of(item) for item in simple_view(reply.outcome.outputs)],
            error=None if detail is None else f"{detail.name}: {detail.value}",
            execution_time=reply.timings.total_ms,
            sandbox_id=reply.sandbox.sandbox_id,
            uploaded_files=list(reply.paths),
            expires_in=_millis(reply.expires_in.total_seconds()),
            execution_id=reply.execution_id,
            error_detail=detail,
            session=SessionSchema.of(reply),
            timings=TimingsSchema.of(reply.timings),
        )


def _error_detail(reply: RunReply) -> ErrorDetail | None:
    match reply.outcome.end:
        case RunEnd.TIMEOUT:
            return _timeout(_millis(reply.limit.total_seconds()), _millis(reply.asked.total_seconds()))
        case RunEnd.SANDBOX_LOST:
            return ErrorDetail(
                kind="sandbox_lost",
                name="SandboxLost",
                value="the connection to the sandbox broke while the code was running",
                traceback=None,
                retryable=True,
                hint="How far the code came is unknown. The next call tells whether variables were lost.",
            )
        case RunEnd.KERNEL_DIED:
            return ErrorDetail(
                kind="kernel_died",
                name="KernelDied",
                value="the Python process ended while the code was running",
                traceback=None,
                retryable=False,
                hint="Variables are lost, files are still there. Using too much memory is a common cause.",
            )
        case RunEnd.FINISHED:
            raised = next((output for output in reply.outcome.outputs if isinstance(output, Raised)), None)
            return None if raised is None else _user_error(raised)


def _timeout(limit_ms: int, asked_ms: int) -> ErrorDetail:
    value = f"the code ran longer than its limit of {limit_ms} ms and was interrupted"
    hint = "Variables are still there. Do less at once, or raise timeoutMs."
    if limit_ms < asked_ms:
        value = f"the code was interrupted after {limit_ms} of its {asked_ms} ms: getting a sandbox took the others"
        hint = "Variables are still there, and the sandbox is there now: run it again."
    return ErrorDetail(
        kind="timeout", name="TimeoutError", value=value, traceback=None, retryable=limit_ms < asked_ms, hint=hint
    )


def _user_error(raised: Raised) -> ErrorDetail:
    if raised.name == "KeyboardInterrupt":
        return ErrorDetail(
            kind="cancelled",
            name=raised.name,
            value=raised.value or "the code was interrupted",
            traceback=plain(raised.traceback),
            retryable=False,
            hint="Somebody stopped the code. Variables are still there.",
        )
    return ErrorDetail(
        kind="user_code",
        name=raised.name,
        value=raised.value,
        traceback=plain(raised.traceback),
        retryable=False,
        hint="The code raised an exception. Correct it and run it again; variables are still there.",
    )


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
            expires_in=_millis(info.expires_in.total_seconds()),
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


class UploadSchema(Wire):
    """Where to upload: send `fields`, then the file as `file`, as multipart form data to `url`."""

    url: str
    fields: dict[str, str]

    @classmethod
    def of(cls, ticket: UploadTicket) -> "UploadSchema":
        """Returns the ticket as it goes over the wire."""
        return cls(url=ticket.url, fields=dict(ticket.fields))


class FileSchema(Wire):
    """A file of the chat, and what it holds once it has been read."""

    file_id: FileId
    name: str
    path: str = Field(description="Where the file is in the sandbox.")
    size: int = Field(description="In bytes.")
    content_type: str
    status: FileStatus
    reason: str | None = Field(description="Why a `failed` file cannot be used.")
    headers: Sequence[str] | None = Field(description="A table's columns.")
    row_count: int | None = Field(description="A table's rows, without the header.")
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


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
