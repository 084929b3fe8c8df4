"""What the service tells of runs. Words such as states are plain text: a newer service may have new ones."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from sandkeeper_client import display
from sandkeeper_client.errors import RunFailed
from sandkeeper_client.values import Value

STDERR = "text/plain; stream=stderr"
BINARY = ("image/png", "image/jpeg", "application/pdf")
"""Types whose content comes as base64."""


@dataclass(frozen=True, kw_only=True)
class Result(Value):
    """One thing that the code showed: text, image, html, markdown, latex, json, chart, table or error.

    Where it was too large for the reply `content` is None, and `Chat.content` gets it from `url`.
    """

    type: str
    mime_type: str
    content: Any = None
    """Text; base64 for PNG, JPEG and PDF; a JSON value for json, chart, table."""
    url: str | None = field(default=None, repr=False)
    size: int | None = None
    expires_in: int | None = None
    """For how long the URL is good."""

    @property
    def data(self) -> bytes:
        """What a file of it holds: the picture's bytes, or its text or JSON in UTF-8."""
        if self.mime_type in BINARY:
            return base64.b64decode(self.content)
        is_text = isinstance(self.content, str)
        return (self.content if is_text else json.dumps(self.content, ensure_ascii=False)).encode()


@dataclass(frozen=True, kw_only=True)
class ErrorDetail(Value):
    """Why the code did not succeed; `kind` is `user_code`, `timeout`, `cancelled`, `sandbox_lost` …"""

    kind: str
    name: str
    value: str
    traceback: str | None
    retryable: bool
    hint: str


@dataclass(frozen=True, kw_only=True)
class SessionInRun(Value):
    """What became of the chat's session: `new`, `reused`, `resumed` or `recreated`."""

    status: str
    generation: int
    state_reset: bool
    """Variables of earlier calls are gone; `reason` says why."""
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Timings(Value):
    """How long each step took."""

    claim_ms: int
    connect_ms: int
    files_ms: int
    run_ms: int
    release_ms: int


@dataclass(frozen=True, kw_only=True)
class Artifact(Value):
    """A file that a run has created or changed; `Chat.download` gets its content once it is `stored`."""

    artifact_id: str
    path: str
    size: int
    mime_type: str
    status: str = "stored"
    """`stored`, `pending` or `skipped`, with the `reason`."""
    reason: str | None = None
    execution_id: str | None = None
    version: int | None = None
    """Counts the chat's artifacts of this path; known where artifacts are listed."""
    created_at: datetime | None = None


class _Shown:
    """What is said of results in their order."""

    results: tuple[Result, ...]

    def written(self, mime_type: str = "text/plain") -> str:
        """Returns all text of this type: what the code printed, and the values that it showed as text."""
        return "".join(str(each.content) for each in self.of_mime(mime_type) if each.content is not None)

    def of_mime(self, mime_type: str) -> Iterator[Result]:
        """Yields the results of this type, errors aside."""
        return (each for each in self.results if each.mime_type == mime_type and each.type != "error")

    @property
    def text(self) -> str:
        """What the code printed, and the values that it showed as text."""
        return self.written()

    @property
    def stderr(self) -> str:
        """What the code wrote to standard error."""
        return self.written(STDERR)


@dataclass(frozen=True, kw_only=True)
class Run(_Shown, Value):
    """What came of a run. A program that raises is a result: `success` is false, and `error` says why.

    Jupyter shows it as it would have shown the code's own output; see `sandkeeper_client.display`.
    """

    success: bool
    results: tuple[Result, ...]
    error: str | None
    execution_time: int
    sandbox_id: str
    uploaded_files: tuple[str, ...]
    """Paths of the call's files in the sandbox."""
    expires_in: int
    """When the session ends unless it is used, from now."""
    execution_id: str
    error_detail: ErrorDetail | None
    session: SessionInRun
    artifacts: tuple[Artifact, ...]
    more_files: int
    """How many other files have changed; -1 when there were too many to look."""
    timings: Timings
    outputs: tuple[Mapping[str, Any], ...] | None = None
    """The results as nbformat 4.5 outputs, where they were to be included."""
    model: str | None = None
    """All of it as one text for a language model, where it was to be included."""

    def raise_for_error(self) -> Self:
        """Returns the run if it succeeded, and raises `RunFailed` otherwise."""
        if not self.success:
            raise RunFailed(self)
        return self

    def _repr_html_(self) -> str:
        return display.html_of(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": display.text_of(self), "text/html": display.html_of(self)}


@dataclass(frozen=True, kw_only=True)
class Begun(Value):
    """A run that has begun, and may be over."""

    execution_id: str


@dataclass(frozen=True, kw_only=True)
class Progress(Value):
    """A run that may go on: `running` or `ended`, and then what came of it."""

    execution_id: str
    chat_id: str
    state: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    limit_ms: int
    result: Run | None


@dataclass(frozen=True, kw_only=True)
class PastRun(Value):
    """A run in brief; `Chat.execution` of its id has its results."""

    execution_id: str
    state: str
    success: bool | None
    error: str | None
    error_kind: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    execution_time: int | None
    code: str
    """Its beginning."""
    code_truncated: bool
    results: Mapping[str, int]
    """How many results there are of each type."""


# ── Events of a run ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Event(Value):
    """Something that happened in a run; of a kind newer than this client where it is nothing more special."""

    id: str
    """Follow the run from here on with `events(after=…)`."""
    name: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Accepted(Event):
    """The run is there."""

    execution_id: str
    limit_ms: int


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The code has begun to run."""

    state_reset: bool
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Output(_Shown, Event):
    """The code has shown something just now."""

    results: tuple[Result, ...]


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """The run is over. Its last event."""

    success: bool
    error: str | None
    error_detail: ErrorDetail | None
    artifacts: tuple[Artifact, ...]


EVENTS: Mapping[str, type[Event]] = {"accepted": Accepted, "started": Started, "output": Output, "end": Ended}
