"""envd's HTTP side, and the way to its RPC services."""

from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..access import Access
from ..environment import Environment
from ..interpreter.contexts import Contexts
from . import errors
from .commands import Commands
from .files import Files
from .paths import Paths, UnknownUserError
from .watches import Watches


@dataclass(frozen=True)
class Envd:
    """envd's ASGI application and what it keeps running."""

    app: ASGIApp
    rpc: "_Rpc"
    commands: Commands
    watches: Watches

    def load(self) -> None:
        """What the first call for a service needs is there."""
        self.rpc.load()

    async def close(self) -> None:
        """Every command is dead and every watch ended when this returns."""
        self.watches.close()
        await self.commands.close()


def create(access: Access, environment: Environment, contexts: Contexts, home: Path) -> Envd:
    paths = Paths(home)
    files = Files(access, paths)
    state = _State(access, environment, contexts)
    commands, watches = Commands(environment), Watches()
    rpc = _Rpc(access, paths, commands, watches)
    app = Starlette(
        routes=[
            Route("/health", state.health),
            Route("/init", state.init, methods=["POST"]),
            Route("/envs", state.envs),
            Route("/files", files.download, methods=["GET"]),
            Route("/files", files.upload, methods=["POST"]),
            Route("/{service}/{method}", rpc),
        ],
        exception_handlers=dict.fromkeys((HTTPException, OSError, UnknownUserError), _failed),
    )
    return Envd(app, rpc, commands, watches)


class _State:
    """The routes about the sandbox as a whole."""

    def __init__(self, access: Access, environment: Environment, contexts: Contexts) -> None:
        self._access = access
        self._environment = environment
        self._contexts = contexts

    async def health(self, _: Request) -> Response:
        return Response(status_code=204 if self._contexts.warmed else 503)

    async def init(self, request: Request) -> Response:
        self._access.require(request.headers)
        try:
            given = await request.json()
            variables = {str(name): str(value) for name, value in (given.get("envVars") or {}).items()}
            token = str(given.get("accessToken") or "")
        except (ValueError, AttributeError) as reason:
            raise HTTPException(400, "send a JSON object with 'accessToken' and 'envVars'") from reason
        self._access.set_token(token)
        self._environment.update(variables)
        self._contexts.keep(variables)
        return Response(status_code=204)

    async def envs(self, request: Request) -> Response:
        self._access.require(request.headers)
        return JSONResponse(self._environment.given())


@dataclass
class _Rpc:
    """Checks the token, then hands over to the Connect services."""

    access: Access
    paths: Paths
    commands: Commands
    watches: Watches
    _services: dict[str, ASGIApp] = field(default_factory=dict)

    def load(self) -> None:
        """Imports the services, which takes a tenth of a second: better before a client waits for a call."""
        from .rpc import services  # noqa: PLC0415 - see above

        self._services = services(self.paths, self.commands, self.watches)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.access.require(Request(scope).headers)
        if not self._services:
            self.load()
        service = self._services.get(scope["path_params"]["service"])
        if service is None:
            raise HTTPException(404, f"envd has no service {scope['path_params']['service']!r}")
        await service(scope, receive, send)


async def _failed(_: Request, reason: Exception) -> Response:
    """The reason as envd tells it: a JSON object with the status as `code`, and a `message`."""
    match reason:
        case HTTPException():
            status, message = reason.status_code, reason.detail
        case OSError():
            status, message = errors.http_status(reason), errors.message(reason)
        case _:
            status, message = 401, str(reason)
    return JSONResponse({"code": status, "message": message}, status)
