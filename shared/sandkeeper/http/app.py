"""The application, the same under Mangum in Lambda and under uvicorn at home."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandkeeper import __version__, log_context
from sandkeeper.errors import SandkeeperError
from sandkeeper.http import (
    artifact_routes,
    context_routes,
    execute_routes,
    history_routes,
    notebook_routes,
    problems,
    routes,
    session_routes,
)
from sandkeeper.http.problems import Problem
from sandkeeper.http.protection import protected
from sandkeeper.wiring import ApiWiring, new_ulid

THREADS = 400
"""How many requests one server process serves at once."""

DESCRIPTION = """\
Every chat has its own warm Python sandbox: variables, dataframes and files survive from call to call.

Durations are milliseconds, sizes bytes, times ISO 8601 in UTC. Errors are `application/problem+json`.
"""


def create_app(wiring: ApiWiring) -> FastAPI:
    """Returns the application over these services. It reads no environment until the first request."""
    log_context.quieten_libraries()
    app = FastAPI(
        title="Sandkeeper",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_many_at_once,
    )
    app.state.wiring = wiring
    app.include_router(routes.public)
    app.include_router(execute_routes.gated)
    app.include_router(routes.gated)
    app.include_router(artifact_routes.gated)
    app.include_router(session_routes.gated)
    app.include_router(history_routes.gated)
    app.include_router(notebook_routes.gated)
    app.include_router(context_routes.gated)
    app.add_exception_handler(SandkeeperError, problems.of_ours)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, problems.of_validation)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, problems.of_http)  # type: ignore[arg-type]
    app.add_middleware(RequestContext, wiring=wiring)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _many_at_once(_: FastAPI) -> AsyncIterator[None]:
    """Lets a server that outlives a call serve many at once: most only wait. Lambda serves one at a time."""
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


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
        request_id = _request_id(scope)
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


def _request_id(scope: Scope) -> str:
    """Returns Lambda's own request id, so that a reply leads to its log lines; a ULID elsewhere."""
    context = scope.get("aws.context")
    return str(context.aws_request_id) if context is not None else new_ulid()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Returns the OpenAPI document, with the problem schema that the routes refer to."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schemas["Problem"].pop("$defs")
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema
