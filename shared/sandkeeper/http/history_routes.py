"""The endpoints of a chat's history: its runs as a list, and as a notebook."""

from typing import Annotated

from fastapi import APIRouter, Query, Response, Security

from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.history_schemas import ExecutionPage, decode
from sandkeeper.http.problems import documented
from sandkeeper.http.routes import Chat, Wired, bearer

NOTEBOOK_TYPE = "application/x-ipynb+json"

gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)], tags=["history"])

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
Next = Annotated[str | None, Query(max_length=100, description="What the reply before this one gave as `next`.")]


@gated.get("/api/chats/{chatId}/executions", responses=documented(422))
def list_executions(chat: Chat, wiring: Wired, limit: Limit = 20, next: Next = None) -> ExecutionPage:  # noqa: A002
    """Returns the chat's runs of the last 30 days, the latest first; a chat that has none has an empty list."""
    after = None if next is None else decode(next)
    return ExecutionPage.of(wiring.history.page(chat, limit=limit, after=after))


@gated.get(
    "/api/chats/{chatId}/notebook",
    responses={
        **documented(422),
        200: {"content": {NOTEBOOK_TYPE: {"schema": {"type": "object"}}}, "description": "A Jupyter notebook."},
    },
    response_class=Response,
)
def get_notebook(chat: Chat, wiring: Wired) -> Response:
    """Returns the chat's runs as a notebook, in the order of time, with what they put out and what they read.

    It has the latest 200 runs that have ended, and at most 4 MB: older outputs are left out first, and it says so.
    """
    name = chat.chat_id.replace(":", "-")
    headers = {"Content-Disposition": f'attachment; filename="chat-{name}.ipynb"', "Cache-Control": "no-store"}
    return Response(wiring.history.notebook(chat), media_type=NOTEBOOK_TYPE, headers=headers)
