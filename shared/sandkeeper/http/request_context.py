"""What stands around every call, of the API as of MCP: its id, its log line, its protection, its last resort."""

import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandkeeper import log_context
from sandkeeper.http import problems
from sandkeeper.http.protection import protected
from sandkeeper.wiring import ApiWiring, new_ulid


class RequestContext:
    """Gives every request its id, every reply its protection, and every unexpected error a reply.

    That one says nothing of its inside.
    """

    def __init__(self, app: ASGIApp, wiring: ApiWiring) -> None:
        self._app = app
        self._wiring = wiring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        log_context.begin(request_id=request_id)
        begun, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = protected(message["headers"], scope.get("scheme", "http"))
                message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - what nobody expected is told here, and nowhere else
            self._wiring.journal.failed(error)
            if status:
                raise ReplyBrokenOff from None  # servers log what they catch, with whatever its message quotes
            await problems.of_unexpected(Request(scope))(scope, receive, send_with_id)
        finally:
            ms = round((time.monotonic() - begun) * 1000)
            self._wiring.journal.answered(scope["method"], _route(scope), status, ms)


class ReplyBrokenOff(Exception):
    """An unexpected error, which is in the log, came when part of the reply was sent. The server is to hang up."""


def _route(scope: Scope) -> str:
    """Returns the called route as the API's document names it, so without any value; empty for none of them."""
    return getattr(scope.get("route"), "path", "")


def request_id_of(scope: Scope) -> str:
    """Returns Lambda's own request id, so that a reply leads to its log lines; a ULID elsewhere."""
    context = scope.get("aws.context")
    return str(context.aws_request_id) if context is not None else new_ulid()
