"""The endpoint of a chat's context: what a model has to know to write code that works."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response, Security
from fastapi.responses import PlainTextResponse

from sandkeeper.http.context_schemas import ContextReply
from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.problems import documented
from sandkeeper.http.routes import Chat, Wired, bearer
from sandkeeper.services.briefing import briefing

gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)], tags=["context"])

Format = Annotated[Literal["json", "text"], Query(description="`text`: what `text` is in JSON, and no more.")]


@gated.get(
    "/api/chats/{chatId}/context",
    responses={**documented(422), 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    response_model=ContextReply,
)
def get_context(chat: Chat, wiring: Wired, format: Format = "json") -> ContextReply | Response:  # noqa: A002
    """Returns files with their columns, packages, limits, what there is of earlier calls, and the tool to call.

    It neither makes nor wakes a sandbox. A chat that nobody has heard of has a context too.
    """
    context = wiring.context.of(chat)
    return PlainTextResponse(briefing(context)) if format == "text" else ContextReply.of(context)
