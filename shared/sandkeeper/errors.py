"""What Sandkeeper can say no with.

    SandkeeperError
    ├── InvalidRequest        the request is not one; nothing was done
    ├── Unauthenticated       no credentials, or not good ones
    ├── SessionNotFound       this chat of this owner has no live session
    ├── ExecutionNotFound     no such run in this chat of this owner
    ├── FileNotFound          no such file in this chat of this owner
    ├── ArtifactNotFound      no such artifact in this chat of this owner, or it was not stored
    ├── NotebookNotFound      no such notebook in this chat of this owner
    ├── CellNotFound          no such cell in this notebook
    ├── VersionMissing        the request would overwrite something, and does not say which version of it
    ├── VersionStale          what the request would overwrite has changed since; nothing was done
    ├── FileNotReady          uploaded or read too recently; a retry helps
    ├── FileUnusable          its content cannot be used; a retry does not help
    ├── PayloadTooLarge       the request's body is over the limit
    ├── QuotaExceeded         the owner or chat is at a limit
    ├── SessionBusy           another call holds the session; a retry helps
    ├── CapacityExhausted     E2B has no room just now; a retry helps
    ├── SandboxUnavailable    E2B or the sandbox cannot be reached; a retry helps
    ├── StoreUnavailable      DynamoDB or S3 cannot be reached; a retry helps
    └── NotConfigured         a setting is missing; names it

`detail` is written for the caller: it names the value and the fix. A program that raises in a sandbox is a
result, and has no error here.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class SandkeeperError(Exception):
    """The base of all errors that callers may see."""

    retry_after_s: int | None = None
    """After how many seconds the same call may well succeed; None when repeating it is no use."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that is wrong: a JSON pointer into the request, and what to do about it."""

    pointer: str
    detail: str


class InvalidRequest(SandkeeperError):
    """The request breaks a rule. Nothing was done; repeating it is no use."""

    def __init__(self, detail: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)


class Unauthenticated(SandkeeperError):
    """There were no credentials, or they are wrong, revoked or expired."""


class SessionNotFound(SandkeeperError):
    """This chat has no live session; another owner's is as unknown as one that never was."""


class ExecutionNotFound(SandkeeperError):
    """This chat has no such run; another owner's run is as unknown as one that never was."""


class FileNotFound(SandkeeperError):
    """This chat has no such file; another owner's file is as unknown as one that never was."""


class ArtifactNotFound(SandkeeperError):
    """This chat has no such artifact to be downloaded; another owner's is as unknown as one that never was."""


class NotebookNotFound(SandkeeperError):
    """This chat has no such notebook; another owner's is as unknown as one that never was."""


class CellNotFound(SandkeeperError):
    """This notebook has no such cell, or has it no more."""


class VersionMissing(SandkeeperError):
    """The request would overwrite something, and does not say which version of it. `version` is the current one."""

    def __init__(self, detail: str, version: int | None = None) -> None:
        super().__init__(detail)
        self.version = version


class VersionStale(SandkeeperError):
    """What the request would overwrite has changed since its caller read it. `version` is the current one."""

    def __init__(self, detail: str, version: int | None = None) -> None:
        super().__init__(detail)
        self.version = version


class FileNotReady(SandkeeperError):
    """The file's content has not arrived or has not been read yet."""

    retry_after_s = 1


class FileUnusable(SandkeeperError):
    """The file's content cannot be used; upload it again."""


class PayloadTooLarge(SandkeeperError):
    """The request's body is larger than the limit."""


class QuotaExceeded(SandkeeperError):
    """The owner or chat is at a limit; the detail says which, and what frees it."""

    retry_after_s = 60


class SessionBusy(SandkeeperError):
    """Another call is creating, using or closing this chat's session."""

    retry_after_s = 2


class CapacityExhausted(SandkeeperError):
    """E2B is busy or limits the rate of requests."""

    retry_after_s = 5


class SandboxUnavailable(SandkeeperError):
    """E2B or the chat's sandbox cannot be reached; it is unknown whether the sandbox still lives."""

    retry_after_s = 5


class StoreUnavailable(SandkeeperError):
    """DynamoDB or S3 throttles, or cannot be reached."""

    retry_after_s = 2


class NotConfigured(SandkeeperError):
    """The deployment lacks a setting; the detail names it."""
