"""The endpoints. Each parses, calls one service, and answers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from fastapi.security import HTTPBearer

from sandkeeper import __version__, log_context
from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.problems import documented
from sandkeeper.http.schemas import (
    ChatId,
    FileId,
    FileList,
    FileRequest,
    FileSchema,
    Health,
    RegisteredFile,
    StatusReply,
    UploadSchema,
)
from sandkeeper.model import ChatKey
from sandkeeper.wiring import ApiWiring

bearer = HTTPBearer(auto_error=False, description="An API key `sk_…`, or a JWT. The gate checks it.")
gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)])
public = APIRouter()


# Dependencies are async though they await nothing: FastAPI would send plain ones through a thread each.


async def _wiring(request: Request) -> ApiWiring:
    wiring: ApiWiring = request.app.state.wiring
    return wiring


async def _chat_in_query(request: Request, chat_id: Annotated[ChatId, Query(alias="chatId")]) -> ChatKey:
    return chat_of(request, chat_id)


async def _chat_in_path(request: Request, chat_id: Annotated[ChatId, Path(alias="chatId")]) -> ChatKey:
    return chat_of(request, chat_id)


def chat_of(request: Request, chat_id: str) -> ChatKey:
    """Returns the caller's chat of this name, which the call is about."""
    key = ChatKey(request.state.owner, chat_id)
    log_context.add_chat(key)
    return key


Wired = Annotated[ApiWiring, Depends(_wiring)]
QueriedChat = Annotated[ChatKey, Depends(_chat_in_query)]
Chat = Annotated[ChatKey, Depends(_chat_in_path)]
FileInPath = Annotated[FileId, Path(alias="fileId")]


@public.get("/api/health", tags=["health"])
def health() -> Health:
    """Tells that the service is up, and no more."""
    return Health(status="ok", version=__version__)


@gated.get("/api/jupyter/execute", tags=["execute"], responses=documented(422))
def status(chat: QueriedChat, wiring: Wired) -> StatusReply:
    """Tells whether the chat has a live session; one that has none is no error."""
    return StatusReply.of(wiring.control.find(chat))


@gated.delete("/api/jupyter/execute", tags=["execute"], status_code=204, responses=documented(422))
def close(chat: QueriedChat, wiring: Wired) -> None:
    """Closes the chat's session and its sandbox; a chat that has none is as good as closed."""
    wiring.sessions.ending.close(chat)


@gated.post("/api/chats/{chatId}/files", tags=["files"], status_code=201, responses=documented(413, 415, 422, 429))
def register_file(chat: Chat, body: FileRequest, wiring: Wired) -> RegisteredFile:
    """Registers a file, and returns where to upload its content straight to S3."""
    record, ticket = wiring.files.register(
        chat,
        file_name=body.file_name,
        size_bytes=body.size,
        content_type=body.content_type,
        replace=body.replace,
    )
    return RegisteredFile(file_id=record.file_id, path=record.path, upload=UploadSchema.of(ticket))


@gated.get("/api/chats/{chatId}/files", tags=["files"], responses=documented(422))
def list_files(chat: Chat, wiring: Wired) -> FileList:
    """Returns the chat's files, oldest first."""
    return FileList(files=[FileSchema.of(record) for record in wiring.files.of_chat(chat)])


@gated.get("/api/chats/{chatId}/files/{fileId}", tags=["files"], responses=documented(404, 422))
def get_file(chat: Chat, file_id: FileInPath, wiring: Wired) -> FileSchema:
    """Returns the file, and what it holds once it has been read."""
    return FileSchema.of(wiring.files.get(chat, file_id))


@gated.delete("/api/chats/{chatId}/files/{fileId}", tags=["files"], status_code=204, responses=documented(404, 422))
def delete_file(chat: Chat, file_id: FileInPath, wiring: Wired) -> None:
    """Deletes the file: from S3, from the chat, and from the live sandbox."""
    wiring.files.delete(chat, file_id)
