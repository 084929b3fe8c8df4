"""The control plane's routes: the calls of E2B's API that create, find, change and end sandboxes."""

import asyncio
from dataclasses import asdict
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.sandbox import wire
from local.sandbox.calls import Calls, Handler, error
from local.sandbox.faults import AT_ONCE, Call, Fault, Faults, Kind
from local.sandbox.fleet import Fleet, UnknownSandboxError
from local.sandbox.sandbox import Sandbox, State

_UNSUPPORTED = ("snapshots", "templates", "v2/templates", "v3/templates", "volumes", "secrets", "teams")

_BodyT = TypeVar("_BodyT", bound=BaseModel)


class Control:
    """The handlers; each is one call of the API."""

    def __init__(self, fleet: Fleet, faults: Faults, calls: Calls, *, memory_mib: int, domain: str) -> None:
        self._fleet = fleet
        self._faults = faults
        self._calls = calls
        self._memory_mib = memory_mib
        self._domain = domain

    def routes(self) -> list[Route]:
        """All calls, with and without the version in their path."""
        one = "/sandboxes/{sandbox_id}"
        routes: list[tuple[str, str, Handler, Call | None]] = [
            ("GET", "/health", self.health, None),
            ("POST", "/sandboxes", self.create, Call.CREATE),
            ("GET", "/sandboxes", self.list_running, Call.LIST),
            ("GET", "/v2/sandboxes", self.list_pages, Call.LIST),
            ("GET", "/sandboxes/metrics", self.metrics_of_many, None),
            ("GET", one, self.info, Call.INFO),
            ("DELETE", one, self.kill, Call.KILL),
            ("POST", f"{one}/connect", self.connect, Call.CONNECT),
            ("POST", f"{one}/resume", self.resume, Call.CONNECT),
            ("POST", f"{one}/pause", self.pause, Call.PAUSE),
            ("POST", f"{one}/timeout", self.set_timeout, Call.TIMEOUT),
            ("POST", f"{one}/refreshes", self.refresh, Call.TIMEOUT),
            ("GET", f"{one}/metrics", self.metrics, None),
            ("POST", f"{one}/snapshots", self.unsupported, None),
            ("POST", f"{one}/fork", self.unsupported, None),
            ("PUT", f"{one}/network", self.unsupported, None),
            ("GET", "/admin/calls", self.counts, None),
            ("GET", "/admin/sandboxes", self.records, None),
            ("GET", "/admin/faults", self.planned_faults, None),
            ("POST", "/admin/faults", self.plan_fault, None),
            ("DELETE", "/admin/faults", self.clear_faults, None),
        ]
        versioned = [
            ("POST", f"/v2{path}", handler, call) for method, path, handler, call in routes if method == "POST"
        ]
        return [
            *(
                Route(path, self._calls.endpoint(handler, call), methods=[method])
                for method, path, handler, call in [*routes, *versioned]
            ),
            *(
                Route(f"/{name}{{rest:path}}", self._calls.endpoint(self.unsupported), methods=None)
                for name in _UNSUPPORTED
            ),
        ]

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """204 as soon as the server answers."""
        return Response(status_code=204)

    async def create(self, request: Request) -> Response:
        """A new running sandbox, or the one that the idempotency key stands for."""
        spec = (await _body(request, wire.NewSandbox)).spec()
        sandbox = await self._fleet.create(spec, request.headers.get("idempotency-key"))
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

    async def counts(self, request: Request) -> Response:  # noqa: ARG002
        """How often each call has come since the start, and how often a run was asked for."""
        return JSONResponse(self._calls.counts())

    async def records(self, request: Request) -> Response:  # noqa: ARG002
        """Every sandbox ever created, with its state."""
        return JSONResponse([wire.record(sandbox) for sandbox in self._fleet])

    async def planned_faults(self, request: Request) -> Response:  # noqa: ARG002
        """The failures that are still to come."""
        return JSONResponse([asdict(fault) for fault in self._faults.planned])

    async def plan_fault(self, request: Request) -> Response:
        """The failure will come; what happens to a sandbox at once has happened when this returns."""
        fault = Fault.of(await request.json())
        if fault.kind in AT_ONCE:
            await self._befall(self._fleet.get(fault.sandbox_id or ""), fault.kind)
        else:
            self._faults.plan(fault)
        return Response(status_code=204)

    async def clear_faults(self, request: Request) -> Response:  # noqa: ARG002
        """No failure will come."""
        self._faults.clear()
        return Response(status_code=204)

    async def _befall(self, sandbox: Sandbox, kind: Kind) -> None:
        match kind:
            case Kind.PAUSE:
                await sandbox.pause()
            case Kind.EXPIRE:
                await sandbox.end(State.EXPIRED)
            case Kind.VANISH:
                await sandbox.end(State.VANISHED)

    def _sandbox(self, request: Request) -> Sandbox:
        return self._fleet.get(request.path_params["sandbox_id"])

    def _running(self, request: Request) -> Sandbox:
        sandbox = self._sandbox(request)
        if sandbox.state is not State.RUNNING:
            raise UnknownSandboxError(f"sandbox {sandbox.id!r} is not running; connect resumes it")
        return sandbox

    async def _metric(self, sandbox: Sandbox) -> dict[str, object]:
        return await asyncio.to_thread(wire.metric, sandbox, self._memory_mib)


async def _body(request: Request, model: type[_BodyT]) -> _BodyT:
    """The request's body, where an absent one means all defaults."""
    return model.model_validate_json(await request.body() or b"{}")


def _demand_memory(memory: bool) -> None:
    if not memory:
        raise wire.UnsupportedError("pauses and resumes without memory are not part of the local sandbox server")
