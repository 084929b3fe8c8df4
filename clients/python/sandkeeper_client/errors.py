"""What calls can fail with.

    SandkeeperError
    ├── InvalidInput          what the program gave is not usable; nothing was sent
    ├── ConnectionFailed      no answer came, in all attempts
    ├── UnexpectedReply       an answer came that is none of this API's
    ├── TimedOut              what was waited for did not come in time; it may still
    ├── FileFailed            an upload arrived and cannot be used; `file.reason` says why
    ├── TransferFailed        content was not taken or given out where it lies; its address may be too old
    ├── RunFailed             the program did not succeed: only `Run.raise_for_error` raises this
    └── Problem               the service said no
        ├── InvalidRequest    the request breaks a rule; `errors` names the fields
        ├── Unauthenticated   no token, or not a good one
        ├── NotFound          no such session, run, file or artifact in this chat
        ├── FileNotReady      uploaded or read too recently; a retry helps
        ├── FileUnusable      the file's content cannot be used
        ├── PayloadTooLarge   the request's body is over the limit
        ├── QuotaExceeded     a limit is reached; the detail says what frees it
        ├── SessionBusy       another run has the session; a retry helps
        ├── Unavailable       the service or what it stands on cannot be reached; a retry helps
        └── ServiceFailed     the service has an error, or lacks a setting

What a retry helps with has been tried again, within the client's `Retries`, before it is raised. A program that
raises is a result and no error: see `Run.success`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from sandkeeper_client.replies import File
    from sandkeeper_client.runs import Run

TYPE_PREFIX = "urn:sandkeeper:problem:"
SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that is wrong: a JSON pointer into the body, or `query/…`, `path/…`; and what to do about it."""

    pointer: str
    detail: str


class SandkeeperError(Exception):
    """The base of all errors of this client. What only a service can say is empty where it has not."""

    status: int | None = None
    slug: str = ""
    errors: Sequence[FieldProblem] = ()
    request_id: str | None = None
    retry_after: float | None = None
    """After how many seconds the same call may well succeed."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidInput(SandkeeperError, ValueError):
    """What was given is not usable. Nothing was sent; the detail names the value and the fix."""


class ConnectionFailed(SandkeeperError):
    """No answer came. Whether the service has heard the call is unknown, unless the connection was refused."""


class UnexpectedReply(SandkeeperError):
    """An answer came that this API does not give: the address may be another program's."""


class TimedOut(SandkeeperError, TimeoutError):
    """What was waited for did not come in time. It goes on: waiting again is fine."""


class FileFailed(SandkeeperError):
    """The upload arrived, and its content cannot be used."""

    def __init__(self, file: "File") -> None:
        super().__init__(f"{file.name!r} cannot be used: {file.reason}")
        self.file = file


class TransferFailed(SandkeeperError):
    """Content was not taken, or not given out, where it lies. Addresses are good for a while; ask for a new one."""

    def __init__(self, where: str, status: int, said: str) -> None:
        super().__init__(f"{where} answered {status}: {said[:SHOWN_CHARS]}")
        self.status = status


class RunFailed(SandkeeperError):
    """The program did not succeed; `run` is all that came of it."""

    def __init__(self, run: "Run") -> None:
        super().__init__(run.error or "the run did not succeed")
        self.run = run


class Problem(SandkeeperError):
    """The service said no, in the words of RFC 9457."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        slug: str = "",
        errors: Sequence[FieldProblem] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.errors = status, slug, tuple(errors)
        self.request_id, self.retry_after = request_id, retry_after

    def __str__(self) -> str:
        known = f"{self.status} {self.slug}".strip()
        return f"{known}: {self.detail}" + (f" (request {self.request_id})" if self.request_id else "")

    @classmethod
    def of(cls, reply: httpx.Response) -> "Problem":
        """Returns the error that a reply tells, whoever on the way has written it."""
        told = _told(reply)
        slug = str(told.get("type", "")).removeprefix(TYPE_PREFIX)
        status = reply.status_code
        kind = OF_SLUG.get(slug) or OF_STATUS.get(status) or (ServiceFailed if status >= 500 else Problem)
        return kind(
            str(told.get("detail") or told.get("message") or reply.text[:SHOWN_CHARS] or reply.reason_phrase),
            status=status,
            slug=slug,
            errors=_fields(told.get("errors")),
            request_id=told.get("requestId") or reply.headers.get("x-request-id"),
            retry_after=_seconds(reply.headers.get("retry-after", "")),
        )


class InvalidRequest(Problem):
    """The request breaks a rule; `errors` names every field. Nothing was done."""


class Unauthenticated(Problem):
    """There was no token, or it is wrong, revoked or expired."""


class NotFound(Problem):
    """This chat has no such session, run, file or artifact; another owner's is as unknown as one that never was."""


class FileNotReady(Problem):
    """The file's content has not arrived, or has not been read yet."""


class FileUnusable(Problem):
    """The file's content cannot be used; upload it again."""


class PayloadTooLarge(Problem):
    """The request's body is over the limit; upload data as files."""


class QuotaExceeded(Problem):
    """The owner or chat is at a limit; the detail says which, and what frees it."""


class SessionBusy(Problem):
    """Another run has the session, or it is being made or closed."""


class Unavailable(Problem):
    """The service, its sandboxes or its store cannot be reached, or have no room."""


class ServiceFailed(Problem):
    """The service has an error of its own, or lacks a setting; report it with `request_id`."""


OF_SLUG: Mapping[str, type[Problem]] = {
    "invalid-request": InvalidRequest,
    "unauthenticated": Unauthenticated,
    "session-not-found": NotFound,
    "execution-not-found": NotFound,
    "artifact-not-found": NotFound,
    "file-not-found": NotFound,
    "file-not-ready": FileNotReady,
    "file-unusable": FileUnusable,
    "payload-too-large": PayloadTooLarge,
    "quota-exceeded": QuotaExceeded,
    "session-busy": SessionBusy,
    "capacity-exhausted": Unavailable,
    "sandbox-unavailable": Unavailable,
    "store-unavailable": Unavailable,
    "not-configured": ServiceFailed,
    "internal-error": ServiceFailed,
}
OF_STATUS: Mapping[int, type[Problem]] = {
    401: Unauthenticated,
    404: NotFound,
    413: PayloadTooLarge,
    429: QuotaExceeded,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
"""For what a gateway answers, which has words of its own, and for problems that are newer than this client."""


def _told(reply: httpx.Response) -> dict[str, Any]:
    try:
        told = reply.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return told if isinstance(told, dict) else {}


def _fields(told: Any) -> list[FieldProblem]:
    fields = [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
    return [FieldProblem(str(each.get("pointer", "")), str(each.get("detail", ""))) for each in fields]


def _seconds(text: str) -> float | None:
    """Returns a `Retry-After` in seconds, which may be written as a date; None where there is none."""
    if text.strip().isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
