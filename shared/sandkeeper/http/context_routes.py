"""The endpoints of a chat's context: what a model has to know to write code that works, and prompts with it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response, Security
from fastapi.responses import PlainTextResponse

from sandkeeper.http.context_schemas import ContextReply, FilledPrompt, PromptList, PromptSchema
from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.problems import documented
from sandkeeper.http.routes import Chat, Wired, bearer
from sandkeeper.http.schemas import FileId
from sandkeeper.prompts import MAX_ARGUMENT_CHARS, PROMPTS, PromptName
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


Named = Annotated[PromptName, Path(alias="promptName", description="Which prompt.")]


def _argument(description: str) -> Any:
    return Query(min_length=1, max_length=MAX_ARGUMENT_CHARS, description=description)


@gated.get("/api/chats/{chatId}/prompts", responses=documented(422))
def list_prompts(chat: Chat) -> PromptList:  # noqa: ARG001 - the address names a chat, and that name is checked
    """Returns the prompts that there are. All of them can be had for every chat."""
    return PromptList(prompts=[PromptSchema.of(prompt) for prompt in PROMPTS.values()])


@gated.get("/api/chats/{chatId}/prompts/{promptName}", responses=documented(404, 422))
def get_prompt(
    *,
    chat: Chat,
    name: Named,
    wiring: Wired,
    request: Annotated[
        str | None,
        _argument(
            "What the user asks for: of `data-analysis`, `notebook-update`. A gateway takes addresses and headers"
            " of 10,240 bytes in all: send what is long as a message of its own."
        ),
    ] = None,
    file: Annotated[str | None, _argument("The name or path of a file: of `file-context`.")] = None,
    notebook_id: Annotated[FileId | None, Query(alias="notebookId", description="Of `notebook-update`.")] = None,
    execution_id: Annotated[FileId | None, Query(alias="executionId", description="Of `error-recovery`.")] = None,
) -> FilledPrompt:
    """Returns the prompt, filled from the chat. It neither makes nor wakes a sandbox."""
    given = {"request": request, "file": file, "notebookId": notebook_id, "executionId": execution_id}
    filled = wiring.prompts.fill(chat, name, {each: value for each, value in given.items() if value is not None})
    return FilledPrompt.of_filled(filled)
