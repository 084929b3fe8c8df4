"""What goes over the wire of runs: what is asked for, and what came of it."""

import json
from hashlib import sha256
from typing import Any, Literal, Self, assert_never, cast

from pydantic import AwareDatetime, Field, model_validator

from sandkeeper.http.schemas import ChatId, FileId, Wire
from sandkeeper.model import MAX_CODE_CHARS, EndReason, Output, Raised, RunEnd, SessionStatus
from sandkeeper.outputs import ResultItem, ResultType, plain, simple_view
from sandkeeper.runs import Accepted, Ended, Execution, ExecutionState, RunEvent, Started
from sandkeeper.services.execute import INLINE_LIMIT, Mode, RunReply
from sandkeeper.services.requests import MAX_LIMIT
from sandkeeper.services.stopwatch import Timings

MAX_TIMEOUT_MS = round(MAX_LIMIT.total_seconds() * 1000)
INLINE_MS = round(INLINE_LIMIT.total_seconds() * 1000)


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
    mode: Mode = Field(
        default="auto",
        description="`auto`: the result if it is there within 25 s, else 202. `inline`: the result, for code of at"
        f" most {INLINE_MS} ms. `async`: 202 at once.",
    )
    on_busy: Literal["wait", "reject"] = Field(
        default="wait", description="What to do while another run has the session."
    )

    @model_validator(mode="after")
    def _ends_within_the_call(self) -> Self:
        if self.mode == "inline" and (self.timeout_ms or 0) > INLINE_MS:
            raise ValueError(f"timeoutMs {self.timeout_ms} is over the {INLINE_MS} ms of mode 'inline'; use 'auto'")
        return self

    @property
    def digest(self) -> str:
        """What tells this request from any other: equal digests ask for the same."""
        return sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


# ── What came of it ─────────────────────────────────────────────────────────────────────────────────


class ResultSchema(Wire):
    """One thing that the code showed, in the order of appearance."""

    type: ResultType
    content: Any = Field(description="Text; base64 for PNG, JPEG and PDF; a JSON value for json, chart, table.")
    mime_type: str

    @classmethod
    def of(cls, item: ResultItem) -> "ResultSchema":
        """Returns the item as it goes over the wire."""
        return cls(type=item.type, content=item.content, mime_type=item.mime_type)


ErrorKind = Literal[
    "user_code", "timeout", "cancelled", "output_limit", "out_of_memory", "kernel_died", "sandbox_lost"
]


class ErrorDetail(Wire):
    """Why the code did not succeed."""

    kind: ErrorKind
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
    def of(cls, execution: Execution) -> "SessionSchema":
        """Returns the session as it goes over the wire."""
        return cls(
            status=execution.context.status,
            generation=execution.context.generation,
            state_reset=execution.reset_reason is not None,
            reason=execution.reset_reason,
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

    @classmethod
    def of_earlier(cls, execution: Execution) -> "TimingsSchema":
        """Returns what is known of the call that began the run, and of the run."""
        context = execution.context
        return cls(
            claim_ms=context.claim_ms,
            connect_ms=context.connect_ms,
            files_ms=context.files_ms,
            run_ms=execution.run_ms,
            release_ms=0,
        )

    @property
    def total_ms(self) -> int:
        """All steps together."""
        return self.claim_ms + self.connect_ms + self.files_ms + self.run_ms + self.release_ms

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
        """Returns what came of a call's own run."""
        if reply.is_repeated:
            return cls.of_earlier(reply.execution, expires_in_ms=_millis(reply.expires_in.total_seconds()))
        return cls._of(
            reply.execution,
            expires_in_ms=_millis(reply.expires_in.total_seconds()),
            execution_time=reply.timings.total_ms,
            timings=TimingsSchema.of(reply.timings),
        )

    @classmethod
    def of_earlier(cls, execution: Execution, *, expires_in_ms: int) -> "ExecuteReply":
        """Returns what came of a run that an earlier call has begun."""
        timings = TimingsSchema.of_earlier(execution)
        return cls._of(execution, expires_in_ms=expires_in_ms, execution_time=timings.total_ms, timings=timings)

    @classmethod
    def _of(
        cls, execution: Execution, *, expires_in_ms: int, execution_time: int, timings: TimingsSchema
    ) -> "ExecuteReply":
        outputs, detail = _told(execution)
        return cls(
            success=detail is None,
            results=[ResultSchema.of(item) for item in simple_view(outputs)],
            error=_line(detail),
            execution_time=execution_time,
            sandbox_id=execution.context.sandbox_id,
            uploaded_files=list(execution.context.paths),
            expires_in=expires_in_ms,
            execution_id=execution.execution_id,
            error_detail=detail,
            session=SessionSchema.of(execution),
            timings=timings,
        )


class AcceptedReply(Wire):
    """A run that goes on. Ask `statusUrl` for its result, or follow it at `eventsUrl`."""

    execution_id: str
    state: Literal["running"] = "running"
    status_url: str
    events_url: str

    @classmethod
    def of(cls, execution: Execution) -> "AcceptedReply":
        """Returns where the run is followed."""
        status_url = f"/api/chats/{execution.key.chat_id}/executions/{execution.execution_id}"
        return cls(execution_id=execution.execution_id, status_url=status_url, events_url=f"{status_url}/events")


class ExecutionReply(Wire):
    """A run: whether it has ended, and what came of it."""

    execution_id: str
    chat_id: ChatId
    state: ExecutionState
    created_at: AwareDatetime
    started_at: AwareDatetime | None = Field(description="When the code began to run.")
    ended_at: AwareDatetime | None
    limit_ms: int = Field(description="How long the code may run.")
    result: ExecuteReply | None = Field(
        description="What `POST execute` would have answered; null until it is there."
    )

    @classmethod
    def of(cls, execution: Execution, *, expires_in_ms: int) -> "ExecutionReply":
        """Returns the run as it goes over the wire."""
        is_over = execution.end is not None
        return cls(
            execution_id=execution.execution_id,
            chat_id=execution.key.chat_id,
            state=execution.state,
            created_at=execution.created_at,
            started_at=execution.started_at,
            ended_at=execution.ended_at,
            limit_ms=execution.context.limit_ms,
            result=ExecuteReply.of_earlier(execution, expires_in_ms=expires_in_ms) if is_over else None,
        )


def event_data(event: RunEvent, execution: Execution) -> tuple[str, dict[str, Any]]:
    """Returns the name of an event and what it tells, as they go over the wire."""
    at = {"at": event.at.isoformat().replace("+00:00", "Z")}
    match event.what:
        case Accepted(_, context):
            return "accepted", {**at, "executionId": execution.execution_id, "limitMs": context.limit_ms}
        case Started(reset):
            reason = execution.context.reset_reason(reset)
            return "started", {**at, "stateReset": reason is not None, "reason": reason}
        case Ended():
            detail = _told(execution)[1]
            told = {"success": detail is None, "error": _line(detail)}
            return "end", {**at, **told, "errorDetail": detail and detail.model_dump(mode="json", by_alias=True)}
        case output:
            results = [ResultSchema.of(item) for item in simple_view([output])]
            return "output", {**at, "results": [item.model_dump(mode="json", by_alias=True) for item in results]}


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────

STOPPED = (RunEnd.TIMEOUT, RunEnd.CANCELLED, RunEnd.OUTPUT_LIMIT)
"""Ends at which the kernel was interrupted, and keeps its variables."""


def _told(execution: Execution) -> tuple[list[Output], ErrorDetail | None]:
    """Returns what there is to show, and why the code did not succeed.

    The interrupt that has stopped a program is part of the reason, and no output of its own.
    """
    outcome = execution.outcome
    outputs = list(outcome.outputs)
    raised = next((output for output in reversed(outputs) if isinstance(output, Raised)), None)
    if outcome.end is RunEnd.FINISHED:
        return outputs, None if raised is None else _user_error(raised)
    if outcome.end in STOPPED and raised is not None and raised.name == "KeyboardInterrupt":
        outputs.remove(raised)
        return outputs, _failure(execution, outcome.end, plain(raised.traceback))
    return outputs, _failure(execution, outcome.end, None)


def error_of(execution: Execution) -> ErrorDetail | None:
    """Returns why a run that has ended did not succeed; None if it did."""
    return _told(execution)[1]


def _line(detail: ErrorDetail | None) -> str | None:
    return None if detail is None else f"{detail.name}: {detail.value}"


def _user_error(raised: Raised) -> ErrorDetail:
    has_memory = not raised.name.endswith("MemoryError")  # numpy has one of its own
    hint = "Correct it and run it again" if has_memory else "There is not enough memory for it: load less at once"
    return ErrorDetail(
        kind="user_code" if has_memory else "out_of_memory",
        name=raised.name,
        value=raised.value,
        traceback=plain(raised.traceback),
        retryable=False,
        hint=f"The code raised an exception. {hint}; variables are still there.",
    )


def _failure(
    execution: Execution,
    end: Literal[
        RunEnd.TIMEOUT,
        RunEnd.CANCELLED,
        RunEnd.OUTPUT_LIMIT,
        RunEnd.OUT_OF_MEMORY,
        RunEnd.KERNEL_DIED,
        RunEnd.SANDBOX_LOST,
    ],
    traceback: str | None,
) -> ErrorDetail:
    """Returns why a run ended before its time."""
    context = execution.context
    cut_short = context.limit_ms < context.asked_ms
    kept = "Variables are still there"
    if execution.has_lost_variables:
        kept = "The code did not react, so that its kernel was restarted: variables are lost, files are still there"
    match end:
        case RunEnd.TIMEOUT if cut_short:
            name = "TimeoutError"
            value = (
                f"the code was interrupted after {context.limit_ms} of its {context.asked_ms} ms: getting a sandbox"
                " took the others"
            )
            hint = f"{kept}. The sandbox is there now: run it again."
        case RunEnd.TIMEOUT:
            name = "TimeoutError"
            value = f"the code ran longer than its limit of {context.limit_ms} ms and was interrupted"
            hint = f"{kept}. Do less at once, or raise timeoutMs."
        case RunEnd.CANCELLED:
            name, value = "Cancelled", "the code was stopped"
            hint = f"Somebody stopped the code. {kept}."
        case RunEnd.OUTPUT_LIMIT:
            name, value = "OutputLimit", "the code put out more than fits into a reply and was interrupted"
            hint = f"{kept}. Print less, or write it to a file."
        case RunEnd.OUT_OF_MEMORY:
            name, value = "OutOfMemory", "the Python process needed more memory than there is and was ended"
            hint = "Variables are lost, files are still there. Load less at once."
        case RunEnd.KERNEL_DIED:
            name, value = "KernelDied", "the Python process ended while the code was running"
            hint = "Variables are lost, files are still there. Using too much memory is a common cause."
        case RunEnd.SANDBOX_LOST:
            name, value = "SandboxLost", "the sandbox was lost while the code was running"
            hint = "How far the code came is unknown. The next call tells whether variables were lost."
        case _:
            assert_never(end)
    retryable = end is RunEnd.SANDBOX_LOST or (end is RunEnd.TIMEOUT and cut_short)
    kind = cast("ErrorKind", end.value)
    return ErrorDetail(kind=kind, name=name, value=value, traceback=traceback, retryable=retryable, hint=hint)


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
