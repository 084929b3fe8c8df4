"""The endpoints of sessions: look, interrupt, restart, complete, install."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, Security

from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.problems import documented
from sandkeeper.http.routes import Chat, Wired, bearer
from sandkeeper.http.session_schemas import (
    CompleteReply,
    CompleteRequest,
    Interrupted,
    PackagesReply,
    PackagesRequest,
    SessionDetail,
    SessionPage,
    decode,
)

gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)], tags=["sessions"])

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Next = Annotated[str | None, Query(max_length=300, description="What the reply before this one gave as `next`.")]


@gated.get("/api/sessions", responses=documented(422))
def list_sessions(request: Request, wiring: Wired, limit: Limit = 50, next: Next = None) -> SessionPage:  # noqa: A002
    """Returns the caller's live sessions, the one that expires next first."""
    after = None if next is None else decode(next)
    return SessionPage.of(wiring.control.list(request.state.owner, limit=limit, after=after))


@gated.get("/api/chats/{chatId}/session", responses=documented(404, 422))
def get_session(chat: Chat, wiring: Wired) -> SessionDetail:
    """Returns the chat's live session."""
    return SessionDetail.of(wiring.control.look(chat))


@gated.post("/api/chats/{chatId}/session/interrupt", responses=documented(404, 409, 422))
def interrupt(chat: Chat, wiring: Wired) -> Interrupted:
    """Stops the code that the session is running; variables stay. Answers once it has stopped."""
    return Interrupted(interrupted=wiring.control.interrupt(chat))


@gated.post("/api/chats/{chatId}/session/restart", status_code=204, responses=documented(404, 422))
def restart(chat: Chat, wiring: Wired) -> None:
    """Gives the session a fresh kernel: variables go, files stay. The next run tells its caller so."""
    wiring.control.restart(chat)


@gated.post("/api/chats/{chatId}/session/complete", responses=documented(413, 415, 422))
def complete(chat: Chat, body: CompleteRequest, wiring: Wired) -> CompleteReply:
    """Returns what could stand at the cursor, by what lives in the chat's kernel. Runs nothing, wakes nobody."""
    return CompleteReply.of(wiring.control.complete(chat, body.code, body.cursor), body.cursor)


@gated.post("/api/chats/{chatId}/packages", responses=documented(409, 413, 415, 422, 429))
def install_packages(chat: Chat, response: Response, body: PackagesRequest, wiring: Wired) -> PackagesReply:
    """Installs packages into the chat's sandbox, with pip; a failure of pip is a result, in its own words."""
    answer = PackagesReply.of(wiring.packages.install(chat, body.packages))
    response.headers["Server-Timing"] = answer.timings.header()
    return answer
