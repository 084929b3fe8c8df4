"""The interpreter's HTTP side."""

import asyncio
import json
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..access import Access
from .contexts import BadDirectoryError, Context, Contexts, NoSuchContextError, UnknownLanguageError, language_named
from .kernel import KernelStartError
from .outputs import END, KEEPALIVE, Event, error

KEEPALIVE_S = 5

_LINES = [(b"content-type", b"application/x-ndjson")]


def create(access: Access, contexts: Contexts) -> Starlette:
    """The ASGI application of the interpreter."""
    routes = _Routes(access, contexts)
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/execute", routes.execute, methods=["POST"]),
            Route("/contexts", routes.list, methods=["GET"]),
            Route("/contexts", routes.create, methods=["POST"]),
            Route("/contexts/{id}", routes.remove, methods=["DELETE"]),
            Route("/contexts/{id}/restart", routes.restart, methods=["POST"]),
        ],
        exception_handlers={
            NoSuchContextError: _plain(404),
            UnknownLanguageError: _plain(400),
            BadDirectoryError: _plain(400),
            KernelStartError: _plain(500),
        },
    )


class _Routes:
    def __init__(self, access: Access, contexts: Contexts) -> None:
        self._access = access
        self._contexts = contexts

    async def health(self, _: Request) -> Response:
        return PlainTextResponse("OK", 200 if self._contexts.warmed else 503)

    async def execute(self, request: Request) -> "_Execution":
        self._access.require(request.headers)
        wanted = await _body(request)
        code, variables = wanted.get("code"), wanted.get("env_vars") or {}
        if not isinstance(code, str) or not _is_text_by_text(variables):
            raise HTTPException(400, "'code' must be a string and 'env_vars' an object of strings")
        return _Execution(self._context_for(wanted), code, variables)

    async def list(self, _: Request) -> Response:
        return JSONResponse([_described(context) for context in self._contexts.all()])

    async def create(self, request: Request) -> Response:
        wanted = await _body(request)
        context = await self._contexts.create(language_named(wanted.get("language")), wanted.get("cwd"))
        return JSONResponse(_described(context))

    async def remove(self, request: Request) -> Response:
        await self._contexts.remove(self._contexts.get(request.path_params["id"]))
        return JSONResponse(None)

    async def restart(self, request: Request) -> Response:
        await self._contexts.get(request.path_params["id"]).restart()
        return JSONResponse(None)

    def _context_for(self, wanted: dict[str, Any]) -> Context:
        context_id, language = wanted.get("context_id"), wanted.get("language")
        if context_id and language:
            raise HTTPException(400, "give either 'context_id' or 'language', not both")
        return self._contexts.get(context_id) if context_id else self._contexts.default(language_named(language))


class _Execution:
    """The answer to `/execute`: a run's events as they come; a client that leaves interrupts its run."""

    # An interrupted run takes its time to end: its task must outlive the request.
    _ending: ClassVar[set[asyncio.Task[None]]] = set()

    def __init__(self, context: Context, code: str, variables: dict[str, str]) -> None:
        self._context = context
        self._code = code
        self._variables = variables
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        run = asyncio.create_task(self._run())
        leaving = asyncio.create_task(_until_disconnect(receive))
        streaming = asyncio.create_task(self._stream(send))
        try:
            await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._ending.add(run)
            run.add_done_callback(self._ending.discard)
            for task in (run, leaving, streaming):
                task.cancel()
            await asyncio.wait({streaming})

    async def _run(self) -> None:
        try:
            await self._context.execute(self._code, self._variables, self._events.put_nowait)
        except (KernelStartError, OSError) as reason:
            self._events.put_nowait(error("ContextRestarting", str(reason), []))
        self._events.put_nowait(END)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _LINES})
        batch: list[Event] = []
        while END not in batch:
            batch = await self._next_batch()
            lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in batch)
            await send({"type": "http.response.body", "body": lines.encode(), "more_body": END not in batch})

    async def _next_batch(self) -> list[Event]:
        """All events that are waiting, or a sign of life when none came for a while."""
        try:
            async with asyncio.timeout(KEEPALIVE_S):
                batch = [await self._events.get()]
        except TimeoutError:
            return [KEEPALIVE]
        while not self._events.empty():
            batch.append(self._events.get_nowait())
        return batch


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> dict[str, Any]:
    try:
        wanted = await request.json()
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise HTTPException(400, "send a JSON object")
    for name in ("context_id", "language", "cwd"):
        if not isinstance(wanted.get(name), str | None):
            raise HTTPException(400, f"{name!r} must be a string, not {wanted[name]!r}")
    return wanted


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)


def _described(context: Context) -> dict[str, str]:
    return {"id": context.id, "language": context.language, "cwd": context.cwd}


def _plain(status: int) -> Any:
    async def handler(_: Request, reason: Exception) -> Response:
        return PlainTextResponse(str(reason), status)

    return handler
