"""What stands before every route but health: who is calling, and is the body one that we read at all?

It works before the body is parsed, so that a stranger's call does nothing, whatever it carries.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from sandkeeper import log_context
from sandkeeper.errors import FieldProblem, InvalidRequest, PayloadTooLarge
from sandkeeper.http.credentials import bearer_token
from sandkeeper.services.auth import Authenticate

MAX_BODY_BYTES = 1_000_000

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GatedRoute(APIRoute):
    """A route whose caller is known: `request.state.owner`."""

    def get_route_handler(self) -> Handler:
        """Returns the route's handler behind the gate."""
        handle = super().get_route_handler()
        known = _query_names(self.dependant)
        has_body = self.body_field is not None

        async def gated(request: Request) -> Response:
            request.state.owner = await _owner(request)
            log_context.add_owner(request.state.owner)
            _require_known(request, known)
            if has_body:
                _require_json(request)
                await _read_bounded(request)
            return await handle(request)

        return gated


async def _owner(request: Request) -> str:
    """Returns who is calling; in a thread where that takes I/O."""
    token = bearer_token(request)
    authenticate: Authenticate = request.app.state.wiring.authenticate
    recalled = authenticate.recall(token)
    return recalled if recalled is not None else await run_in_threadpool(authenticate, token)


def _query_names(dependant: Dependant) -> frozenset[str]:
    """Returns the query parameters of a route, those of what it depends on included."""
    own = {parameter.alias for parameter in dependant.query_params}
    return frozenset(own.union(*map(_query_names, dependant.dependencies)))


def _require_known(request: Request, known: frozenset[str]) -> None:
    """Refuses query parameters that the route does not have: ignored, they would hide a slip of the pen."""
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        there_is = f"it has {', '.join(sorted(known))}" if known else "it has none"
        problems = [FieldProblem(f"query/{name}", "is not a parameter of this call") for name in unknown]
        raise InvalidRequest(f"{unknown[0]!r} is not a query parameter of this call; {there_is}", problems)


def _require_json(request: Request) -> None:
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != "application/json":
        raise HTTPException(415, f"the body's content type is {content_type!r}; send application/json")


async def _read_bounded(request: Request) -> None:
    """Reads the body, and stops reading it at the limit. It is then kept for the route."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise PayloadTooLarge(f"the body has more than {MAX_BODY_BYTES} bytes; send less at once")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: {error.reason} at byte {error.start}; encode it so") from None
    request._body = bytes(body)
