"""What goes over the wire of runs: what is asked for, and what came of it."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, model_validator

from sandkeeper.http.artifact_schemas import ArtifactSchema
from sandkeeper.http.error_details import ErrorDetail, error_line, what_came_of
from sandkeeper.http.result_schemas import Cell, LinkedResult, ResultSchema
from sandkeeper.http.schemas import ChatId, FileId, Wire
from sandkeeper.model import MAX_CODE_CHARS, EndReason, SessionStatus
from sandkeeper.outputs import simple_view
from sandkeeper.runs import Accepted, Ended, Execution, ExecutionState, RunEvent, Started
from sandkeeper.services.execute import INLINE_LIMIT, Mode, RunReply
from sandkeeper.services.requests import MAX_LIMIT
from sandkeeper.services.stopwatch import Timings

MAX_TIMEOUT_MS = round(MAX_LIMIT.total_seconds() * 1000)
INLINE_MS = round(INLINE_LIMIT.total_seconds() * 1000)

View = Literal["outputs", "model"]


def _unique(views: list[View]) -> list[View]:
    if len(set(views)) < len(views):
        raise ValueError("each view is included once; leave out what comes again")
    return views


Views = Annotated[
    list[View],
    AfterValidator(_unique),
    Field(
        max_length=2,
        json_schema_extra={"uniqueItems": True},
        description="What the reply is to tell besides: `outputs`, the results as a notebook keeps them; `model`,"
        " all of it as one short text for a language model.",
    ),
]


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
    include: Views = Field(default_factory=list)

    @model_validator(mode="after")
    def _ends_within_the_call(self) -> Self:
        if self.mode == "inline" and (self.timeout_ms or 0) > INLINE_MS:
            raise ValueError(f"timeoutMs {self.timeout_ms} is over the {INLINE_MS} ms of mode 'inline'; use 'auto'")
        return self

    @property
    def digest(self) -> str:
        """What tells this request from any other: equal digests ask for the same run, in whatever views."""
        asked = self.model_dump(mode="json", exclude={"include"})
        return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


# ── What came of it ─────────────────────────────────────────────────────────────────────────────────


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
    results: list[ResultSchema | LinkedResult]
    error: str | None
    execution_time: int = Field(description="The whole call, in milliseconds.")
    sandbox_id: str
    uploaded_files: list[str] = Field(description="Paths of the call's files in the sandbox.")
    expires_in: int = Field(description="When the session ends unless it is used, in milliseconds from now.")
    execution_id: str
    error_detail: ErrorDetail | None
    session: SessionSchema
    artifacts: list[ArtifactSchema] = Field(description="Files that the run has created or changed.")
    more_files: int = Field(
        description="How many others have changed, of which no more is known; -1 when there were too many to look."
    )
    timings: TimingsSchema
    outputs: list[Cell] | None = Field(
        default=None, description="The results as outputs of nbformat 4.5, where they were to be included."
    )
    model: str | None = Field(
        default=None, description="All of it as one text for a language model, where it was to be included."
    )

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
        outputs, detail = what_came_of(execution)
        return cls(
            success=detail is None,
            results=[ResultSchema.of(item) for item in simple_view(outputs)],
            error=error_line(detail),
            execution_time=execution_time,
            sandbox_id=execution.context.sandbox_id,
            uploaded_files=list(execution.context.paths),
            expires_in=expires_in_ms,
            execution_id=execution.execution_id,
            error_detail=detail,
            session=SessionSchema.of(execution),
            artifacts=[ArtifactSchema.of(artifact) for artifact in execution.artifacts],
            more_files=execution.changes.more if execution.changes.all_seen else -1,
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


Fit = Callable[[Sequence[ResultSchema]], Sequence[ResultSchema | LinkedResult]]
"""Lets results fit into an event."""


def event_data(event: RunEvent, execution: Execution, fit: Fit) -> tuple[str, dict[str, Any]]:
    """Returns the name of an event and what it tells, as they go over the wire."""
    at = {"at": event.at.isoformat().replace("+00:00", "Z")}
    match event.what:
        case Accepted(_, context):
            return "accepted", {**at, "executionId": execution.execution_id, "limitMs": context.limit_ms}
        case Started(reset):
            reason = execution.context.reset_reason(reset)
            return "started", {**at, "stateReset": reason is not None, "reason": reason}
        case Ended():
            detail = what_came_of(execution)[1]
            files = [ArtifactSchema.of(artifact) for artifact in execution.artifacts]
            told: dict[str, Any] = {"success": detail is None, "error": error_line(detail)}
            told |= {"errorDetail": detail and detail.model_dump(mode="json", by_alias=True)}
            told |= {"artifacts": [file.model_dump(mode="json", by_alias=True) for file in files]}
            return "end", {**at, **told}
        case output:
            results = fit([ResultSchema.of(item) for item in simple_view([output])])
            return "output", {**at, "results": [item.model_dump(mode="json", by_alias=True) for item in results]}


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
