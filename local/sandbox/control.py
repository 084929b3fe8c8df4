"""The control plane's routes: the calls of E2B's API that create, find, change and end sandboxes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.sandbox import wire
from local.sandbox.bubblewrap import IsolationUnavailableError
from local.sandbox.cell import CellFailedError
from local.sandbox.faults import Fault, Faults, Kind
from local.sandbox.fleet import Fleet, KeyReusedError, TooManySandboxesError, UnknownSandboxError
from local.sandbox.sandbox import Sandbox, State

_FAULT_HEADER = "x-sandkeeper-fault"
_UNSUPPORTED = ("snapshots", "templates", "v2/templates", "v3/templates", "volumes", "secrets", "teams")
_CREATE_FAULTS = [kind for kind in Kind if kind.is_of_create]

_STATUS: dict[type[Exception], tuple[int, str | None]] = {
    UnknownSandboxError: (404, None),
    TooManySandboxesError: (429, None),
    KeyReusedError: (409, "idempotency_request_mismatch"),
    CellFailedError: (500, "sandbox_create_failed"),
    IsolationUnavailableError: (500, "sandbox_create_failed"),
    wire.UnsupportedError: (501, None),
    ValidationError: (400, None),
    ValueError: (400, None),
}

_BodyT = TypeVar("_BodyT", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """The handlers; each is one call of the API."""

    def __init__(self, fleet: Fleet, faults: Faults, *, memory_mib: int, domain: str) -> None:
        self._fleet = fleet
        self._faults = faults
        self._memory_mib = memory_mib
        self._domain = domain

    def routes(self) -> list[Route]:
        """All calls, with and without the version in their path."""
        one = "/sandboxes/{sandbox_id}"
        routes = [
            ("GET", "/health", self.health),
            ("POST", "/sandboxes", self.create),
            ("GET", "/sandboxes", self.list_running),
            ("GET", "/v2/sandboxes", self.list_pages),
            ("GET", "/sandboxes/metrics", self.metrics_of_many),
            ("GET", one, self.info),
            ("DELETE", one, self.kill),
            ("POST", f"{one}/connect", self.connect),
            ("POST", f"{one}/resume", self.resume),
            ("POST", f"{one}/pause", self.pause),
            ("POST", f"{one}/timeout", self.set_timeout),
            ("POST", f"{one}/refreshes", self.refresh),
            ("GET", f"{one}/metrics", self.metrics),
            ("POST", f"{one}/snapshots", self.unsupported),
            ("POST", f"{one}/fork", self.unsupported),
            ("PUT", f"{one}/network", self.unsupported),
            ("GET", "/admin/sandboxes", self.records),
            ("GET", "/admin/faults", self.planned_faults),
            ("POST", "/admin/faults", self.plan_fault),
            ("DELETE", "/admin/faults", self.clear_faults),
        ]
        versioned = [("POST", f"/v2{path}", call) for method, path, call in routes if method == "POST"]
        whole = [
            Route(f"/{name}{{rest:path}}", _answering(self.unsupported), methods=None) for name in _UNSUPPORTED
        ]
        return [
            *(Route(path, _answering(call), methods=[method]) for method, path, call in [*routes, *versioned]),
            *whole,
        ]

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """204 as soon as the server answers."""
        return Response(status_code=204)

    async def create(self, request: Request) -> Response:
        """A running sandbox, or the failure that a test has asked for."""
        spec = (await _body(request, wire.NewSandbox)).spec()
        fault = self._faults.take(*_CREATE_FAULTS, header=request.headers.get(_FAULT_HEADER))
        match fault and fault.kind:
            case Kind.CREATE_RATE_LIMITED:
                return error(429, "too many creates, on demand")
            case Kind.CREATE_UNAVAILABLE:
                return error(503, "no capacity, on demand", "sandbox_capacity_unavailable")
            case Kind.CREATE_SLOW:
                assert fault  # noqa: S101  (it has a kind)
                await asyncio.sleep(fault.delay_ms / 1000)
        sandbox = await self._fleet.create(spec, request.headers.get("idempotency-key"))
        if fault and fault.kind is Kind.CREATE_REPLY_LOST:
            request.state.disconnect()
        return JSONResponse(wire.created(sandbox, self._domain), 201)

    async def connect(self, request: Request) -> Response:
        """The sandbox, running: a paused one is resumed, and a running one's deadline at most put off."""
        lifetime = await _body(request, wire.Lifetime)
        sandbox = self._sandbox(request)
        _demand_memory(lifetime.memory)
        resumed = await sandbox.resume(lifetime.timeout)
        if sandbox.state is not State.RUNNING:  # it ended while this call waited
            raise UnknownSandboxError(f"sandbox {sandbox.id!r} was not found")
        if not resumed:
            sandbox.extend_timeout(lifetime.timeout)
        return JSONResponse(wire.created(sandbox, self._domain), 201 if resumed else 200)

    async def resume(self, request: Request) -> Response:
        """The sandbox, running again; a conflict if it was not paused."""
        lifetime = await _body(request, wire.Lifetime)
        sandbox = self._sandbox(request)
        _demand_memory(lifetime.memory)
        if not await sandbox.resume(lifetime.timeout):
            return error(409, f"sandbox {sandbox.id!r} is already running")
        return JSONResponse(wire.created(sandbox, self._domain), 201)

    async def pause(self, request: Request) -> Response:
        """The sandbox is paused; a conflict if it was so already."""
        _demand_memory((await _body(request, wire.Pause)).memory)
        sandbox = self._sandbox(request)
        if not await sandbox.pause():
            return error(409, f"sandbox {sandbox.id!r} is already paused")
        return Response(status_code=204)

    async def kill(self, request: Request) -> Response:
        """The sandbox is gone."""
        await self._sandbox(request).end(State.KILLED)
        return Response(status_code=204)

    async def set_timeout(self, request: Request) -> Response:
        """The deadline is so far from now, be it sooner or later than it was."""
        lifetime = await _body(request, wire.Lifetime)
        self._running(request).set_timeout(lifetime.timeout)
        return Response(status_code=204)

    async def refresh(self, request: Request) -> Response:
        """The deadline is at least so far from now."""
        refresh = await _body(request, wire.Refresh)
        self._running(request).extend_timeout(refresh.duration)
        return Response(status_code=204)

    async def info(self, request: Request) -> Response:
        """All that is known of one sandbox."""
        return JSONResponse(wire.detail(self._sandbox(request), self._memory_mib, self._domain))

    async def list_running(self, request: Request) -> Response:
        """All running sandboxes, of the older call that knows no pages."""
        query = wire.query({**request.query_params, "state": "running"})
        return JSONResponse([wire.listed(sandbox, self._memory_mib) for sandbox in self._fleet.list(query)])

    async def list_pages(self, request: Request) -> Response:
        """One page of sandboxes; the header x-next-token leads to the next."""
        parameters = dict(request.query_params)
        limit = int(parameters.get("limit", wire.PAGE_LIMIT))
        if not 1 <= limit <= wire.PAGE_LIMIT:
            raise ValueError(f"limit is {limit}; it must be 1 to {wire.PAGE_LIMIT}")
        found, token = wire.page(
            self._fleet.list(wire.query(parameters)),
            limit=limit,
            newest_first=parameters.get("order", "desc") == "desc",
            token=parameters.get("nextToken"),
        )
        headers = {"x-next-token": token} if token else None
        return JSONResponse([wire.listed(sandbox, self._memory_mib) for sandbox in found], headers=headers)

    async def metrics(self, request: Request) -> Response:
        """What one sandbox uses now, as the only entry of a list."""
        return JSONResponse([await self._metric(self._sandbox(request))])

    async def metrics_of_many(self, request: Request) -> Response:
        """What each of the named sandboxes uses now."""
        ids = request.query_params.get("sandbox_ids", "").split(",")
        found = {sandbox_id: await self._metric(self._fleet.get(sandbox_id)) for sandbox_id in ids if sandbox_id}
        return JSONResponse({"sandboxes": found})

    async def unsupported(self, request: Request) -> Response:
        """501, so that nobody waits for what only the cloud has."""
        return error(501, f"{request.method} {request.url.path} is not part of the local sandbox server")

    async def records(self, request: Request) -> Response:  # noqa: ARG002
        """Every sandbox ever created, with its state."""
        return JSONResponse([wire.record(sandbox) for sandbox in self._fleet])

    async def planned_faults(self, request: Request) -> Response:  # noqa: ARG002
        """The failures that are still to come."""
        return JSONResponse([asdict(fault) for fault in self._faults.planned])

    async def plan_fault(self, request: Request) -> Response:
        """The failure will come; a sandbox that shall vanish is gone when this returns."""
        fault = Fault.of(await request.json())
        if fault.kind is Kind.VANISH:
            await self._fleet.get(fault.sandbox_id or "").end(State.VANISHED)
        else:
            self._faults.plan(fault)
        return Response(status_code=204)

    async def clear_faults(self, request: Request) -> Response:  # noqa: ARG002
        """No failure will come."""
        self._faults.clear()
        return Response(status_code=204)

    def _sandbox(self, request: Request) -> Sandbox:
        return self._fleet.get(request.path_params["sandbox_id"])

    def _running(self, request: Request) -> Sandbox:
        sandbox = self._sandbox(request)
        if sandbox.state is not State.RUNNING:
            raise UnknownSandboxError(f"sandbox {sandbox.id!r} is not running; connect resumes it")
        return sandbox

    async def _metric(self, sandbox: Sandbox) -> dict[str, object]:
        return await asyncio.to_thread(wire.metric, sandbox, self._memory_mib)


def error(status: int, message: str, error_code: str | None = None) -> JSONResponse:
    """A failure in the form that the SDK reads."""
    code = {"error_code": error_code} if error_code else {}
    return JSONResponse({"code": status, "message": message, **code}, status)


def _answering(call: Handler) -> Handler:
    """`call`, with the errors of the table answered; nobody without an API key gets to it."""

    async def endpoint(request: Request) -> Response:
        if request.url.path != "/health" and not request.headers.get("x-api-key"):
            return error(401, "the header X-API-KEY is missing; any value will do here")
        try:
            return await call(request)
        except tuple(_STATUS) as failure:
            status, error_code = next(_STATUS[kind] for kind in type(failure).__mro__ if kind in _STATUS)
            return error(status, str(failure), error_code)

    return endpoint


async def _body(request: Request, model: type[_BodyT]) -> _BodyT:
    """The request's body, where an absent one means all defaults."""
    return model.model_validate_json(await request.body() or b"{}")


def _demand_memory(memory: bool) -> None:
    if not memory:
        raise wire.UnsupportedError("pauses and resumes without memory are not part of the local sandbox server")
