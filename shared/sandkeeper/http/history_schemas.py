"""What goes over the wire of a chat's history."""

import base64
import binascii
import re
from typing import Annotated

from pydantic import AwareDatetime, Field

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.http.error_details import ErrorKind, error_line, error_of
from sandkeeper.http.execute_schemas import TimingsSchema
from sandkeeper.http.schemas import FileId, Wire
from sandkeeper.outputs import ResultType
from sandkeeper.runs import ExecutionState
from sandkeeper.services.history import RunPage
from sandkeeper.services.packages import shown_code
from sandkeeper.summary import RunSummary

CODE_CHARS = 500
_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

Count = Annotated[int, Field(ge=1)]


class PastExecution(Wire):
    """A run in brief; `GET …/executions/{executionId}` has its results."""

    execution_id: FileId = Field(description="The run's id.")
    state: ExecutionState = Field(description="`running` until somebody has seen its end.")
    success: bool | None = Field(description="Null while it runs.")
    error: str | None = Field(description="Why it did not succeed, in one line.")
    error_kind: ErrorKind | None = Field(description="The same as a word to tell apart by.")
    created_at: AwareDatetime = Field(description="When the run was accepted.")
    started_at: AwareDatetime | None = Field(description="When the code began to run; null if that is not known.")
    ended_at: AwareDatetime | None = Field(description="Null while it runs.")
    execution_time: int | None = Field(description="The whole call, in milliseconds; null while it runs.")
    code: str = Field(description=f"Its first {CODE_CHARS} characters. An installation reads `%pip install …`.")
    code_truncated: bool = Field(description="There is more code than this.")
    results: dict[ResultType, Count] = Field(description="How many results there are of each type.")

    @classmethod
    def of(cls, summary: RunSummary) -> "PastExecution":
        """Returns the run as it goes over the wire."""
        run = summary.run
        is_over = run.end is not None
        error = error_of(run) if is_over else None
        code = shown_code(run.code)
        return cls(
            execution_id=run.execution_id,
            state=run.state,
            success=error is None if is_over else None,
            error=error_line(error),
            error_kind=None if error is None else error.kind,
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
            execution_time=TimingsSchema.of_earlier(run).total_ms if is_over else None,
            code=code[:CODE_CHARS],
            code_truncated=len(code) > CODE_CHARS,
            results=dict(summary.results),
        )


class ExecutionPage(Wire):
    """Some of the chat's runs of the last 30 days, the latest first."""

    executions: list[PastExecution] = Field(description="At most `limit` of them.")
    next: str | None = Field(description="Give this as `next` to get those before them; null at the end.")

    @classmethod
    def of(cls, page: RunPage) -> "ExecutionPage":
        """Returns the list as it goes over the wire."""
        return cls(
            executions=[PastExecution.of(summary) for summary in page.runs],
            next=None if page.after is None else encode(page.after),
        )


def encode(execution_id: str) -> str:
    """Returns the id as callers get it to read on."""
    return base64.urlsafe_b64encode(execution_id.encode()).decode().rstrip("=")


def decode(text: str) -> str:
    """Returns the id that `encode` wrote. Raises `InvalidRequest`."""
    try:
        execution_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        execution_id = ""
    if not _ID.fullmatch(execution_id) or encode(execution_id) != text:
        detail = f"next {text!r} is not what an earlier reply gave; leave it out to start from the latest run"
        raise InvalidRequest(detail, [FieldProblem("query/next", detail)])
    return execution_id
