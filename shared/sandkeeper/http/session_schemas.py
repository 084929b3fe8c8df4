"""What goes over the wire of sessions, completions and packages."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StringConstraints, ValidationInfo, field_validator

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.http.execute_schemas import SessionSchema, TimingsSchema
from sandkeeper.http.schemas import ChatId, Wire
from sandkeeper.model import MAX_CODE_CHARS, utc_moment
from sandkeeper.ports import Completions, Position
from sandkeeper.services.control import Activity, SessionInfo, SessionList
from sandkeeper.services.packages import InstallReply


class LiveSession(Wire):
    """A live session, and what its sandbox is doing."""

    chat_id: ChatId
    state: Activity = Field(description="`paused`: memory and files are kept, and the next call resumes it.")
    sandbox_id: str | None = Field(description="None while it is being created.")
    generation: int = Field(description="Counts the chat's sandboxes.")
    created_at: AwareDatetime
    last_used_at: AwareDatetime
    expires_at: AwareDatetime = Field(description="When the session ends unless it is used.")
    run_count: int

    @classmethod
    def of(cls, info: SessionInfo) -> "LiveSession":
        """Returns the session as it goes over the wire."""
        return cls(**_known(info))


class SessionDetail(LiveSession):
    """A live session with the files that are in its sandbox."""

    files: dict[str, str] = Field(description="File id → path in the sandbox.")

    @classmethod
    def of(cls, info: SessionInfo) -> "SessionDetail":
        """Returns the session as it goes over the wire."""
        return cls(**_known(info), files=dict(info.session.hydrated))


def _known(info: SessionInfo) -> dict[str, Any]:
    session = info.session
    return {
        "chat_id": session.key.chat_id,
        "state": info.activity,
        "sandbox_id": session.sandbox.sandbox_id if session.sandbox else None,
        "generation": session.generation,
        "created_at": session.created_at,
        "last_used_at": session.last_used_at,
        "expires_at": session.expires_at,
        "run_count": session.run_count,
    }


class SessionPage(Wire):
    """Some of the caller's live sessions, the one that expires next first."""

    sessions: list[LiveSession]
    count: int = Field(description="How many there are in all.")
    next: str | None = Field(description="Give this as `next` to get those that follow; null at the end.")

    @classmethod
    def of(cls, found: SessionList) -> "SessionPage":
        """Returns the list as it goes over the wire."""
        return cls(
            sessions=[LiveSession.of(info) for info in found.sessions],
            count=found.count,
            next=None if found.after is None else encode(found.after),
        )


def encode(position: Position) -> str:
    """Returns the position as callers get it: it says nothing of the owner, whom each call names anew."""
    text = f"{round(position.expires_at.timestamp() * 1000)} {position.chat_id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str) -> Position:
    """Returns the position that `encode` wrote. Raises `InvalidRequest`."""
    try:
        moment, _, chat_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(" ")
        return Position(utc_moment(int(moment)), chat_id)
    except (binascii.Error, ValueError, OverflowError):
        detail = f"next {text!r} is not what an earlier reply gave; leave it out to start from the first session"
        raise InvalidRequest(detail, [FieldProblem("query/next", detail)]) from None


class Interrupted(Wire):
    """Whether there was code to stop."""

    interrupted: bool = Field(description="False: the session was running nothing.")


class CompleteRequest(Wire):
    """Code that somebody is writing."""

    code: str = Field(max_length=MAX_CODE_CHARS, description="All of it that matters, such as a cell.")
    cursor: int = Field(ge=0, description="How many characters (code points) are before the cursor.")

    @field_validator("cursor")
    @classmethod
    def _is_in_the_code(cls, cursor: int, others: ValidationInfo) -> int:
        code = others.data.get("code")
        if code is not None and cursor > len(code):
            raise ValueError(f"cursor {cursor} is not in the code, which has {len(code)} characters")
        return cursor


class Match(Wire):
    """What could stand there."""

    text: str
    kind: str = Field(description="What it names, as far as known: `variable`, `attribute`, `dict key`, `path` …")


class CompleteReply(Wire):
    """What could stand at the cursor."""

    available: bool = Field(description="False: the chat has no kernel awake, or it did not answer in time.")
    start: int = Field(description="Each match stands for the code from here, in characters …")
    end: int = Field(description="… to here.")
    matches: list[Match]

    @classmethod
    def of(cls, found: Completions | None, cursor: int) -> "CompleteReply":
        """Returns the reply as it goes over the wire."""
        if found is None:
            return cls(available=False, start=cursor, end=cursor, matches=[])
        matches = [Match(text=match.text, kind=match.kind) for match in found.matches]
        return cls(available=True, start=found.start, end=found.end, matches=matches)


PackageName = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class PackagesRequest(Wire):
    """Packages to install."""

    packages: list[PackageName] = Field(
        min_length=1,
        max_length=20,
        description="PEP 508 requirements: names, versions, extras. Neither addresses nor pip's options.",
        examples=[["requests>=2.31"]],
    )


class Package(Wire):
    """A package in the sandbox."""

    name: str
    version: str


class PackagesReply(Wire):
    """What pip did."""

    success: bool
    installed: list[Package] = Field(description="Those asked for, and what they brought along.")
    error: str | None = Field(description="pip's own words.")
    session: SessionSchema
    timings: TimingsSchema

    @classmethod
    def of(cls, reply: InstallReply) -> "PackagesReply":
        """Returns the reply as it goes over the wire."""
        return cls(
            success=reply.error is None,
            installed=[Package(name=name, version=reply.installed[name]) for name in sorted(reply.installed)],
            error=reply.error,
            session=SessionSchema.of(reply.run.execution),
            timings=TimingsSchema.of(reply.run.timings),
        )
