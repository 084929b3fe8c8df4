"""`POST /mcp`: streamable HTTP, as the protocol calls it, without sessions.

Every request stands alone, so that any instance of the function can answer it. Under a gateway, which passes
replies on whole, the answer is one JSON document; elsewhere it is a stream of events if there is progress to tell.
"""

import logging
import re

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from sandkeeper import log_context
from sandkeeper.errors import FieldProblem, InvalidRequest, SandkeeperError
from sandkeeper.http import problems
from sandkeeper.http.credentials import bearer_token
from sandkeeper.http.request_context import RequestContext
from sandkeeper.mcp.server import Caller, create_server
from sandkeeper.model import CHAT_ID_PATTERN
from sandkeeper.wiring import McpWiring

PATH = "/mcp"
MAX_BODY_BYTES = 1_000_000
CHAT_HEADER = "sandkeeper-chat"
CHAT_PARAMETER = "chatId"


def create_app(wiring: McpWiring) -> RequestContext:
    """Returns the application over these services. It reads no environment until the first request."""
    log_context.quieten_libraries()
    # It logs what it cannot read, with all that is in it. What goes wrong in our own code, we log ourselves.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    return RequestContext(Router([Route(PATH, Endpoint(wiring))]), wiring)


class Endpoint:
    """Lets in callers who say who they are, and has their requests answered."""

    def __init__(self, wiring: McpWiring) -> None:
        self._wiring = wiring
        self._server = create_server(wiring)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        refusal = await self._admitted(request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        manager = StreamableHTTPSessionManager(
            self._server,
            json_response=not request.state.caller.streams,
            stateless=True,
            max_request_body_size=MAX_BODY_BYTES,
        )
        # It is made for one run, and that ends with the request: a function is frozen between two.
        async with manager.run():
            await manager.handle_request(scope, receive, send)

    async def _admitted(self, request: Request) -> Response | None:
        """Returns what is answered to whoever is not let in; None where the request's state has its caller."""
        if request.method != "POST":
            detail = f"{request.method} {PATH}: there are no sessions to listen to or to end; POST to it"
            return problems.reply(request, 405, "method-not-allowed", detail, headers={"Allow": "POST"})
        try:
            if not _is_allowed(request.headers.get("origin"), self._wiring.settings.allowed_origins):
                detail = "this Origin may not call; the deployment's AllowedOrigins names those that may"
                return problems.reply(request, 403, "origin-not-allowed", detail)
            owner = await self._owner(request)
            log_context.add_owner(owner)
            request.state.caller = Caller(
                owner=owner,
                chat_id=_chat_of(request),
                streams="aws.event" not in request.scope,
                request_id=request.state.request_id,
            )
        except SandkeeperError as error:
            return problems.of_ours(request, error)
        return None

    async def _owner(self, request: Request) -> str:
        token = bearer_token(request)
        recalled = self._wiring.authenticate.recall(token)
        return recalled if recalled is not None else await run_in_threadpool(self._wiring.authenticate, token)


def _is_allowed(origin: str | None, allowed: str) -> bool:
    """Returns whether a page of this origin may call; others than browsers name none.

    A page that has another address resolve to this machine names its own origin all the same.
    """
    if origin is None:
        return True
    return any(_is_covered(origin, one) for one in filter(None, map(str.strip, allowed.split(","))))


def _is_covered(origin: str, allowed: str) -> bool:
    if allowed in ("*", origin):
        return True
    return allowed.endswith(":*") and origin.rpartition(":")[0] == allowed.removesuffix(":*")


def _chat_of(request: Request) -> str | None:
    """Returns the chat that the connection is about. Raises `InvalidRequest`."""
    given = {*request.query_params.getlist(CHAT_PARAMETER), *request.headers.getlist(CHAT_HEADER)}
    if not given:
        return None
    if len(given) > 1 or not re.fullmatch(CHAT_ID_PATTERN, next(iter(given))):
        detail = f"name one chat, as ?{CHAT_PARAMETER}= or as Sandkeeper-Chat: A-Z a-z 0-9 . _ : -, up to 128"
        raise InvalidRequest(detail, [FieldProblem(f"query/{CHAT_PARAMETER}", detail)])
    return given.pop()
