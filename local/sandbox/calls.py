"""What every call of the control plane has in common: key, count, failures on demand, errors as JSON."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local.sandbox import wire
from local.sandbox.bubblewrap import IsolationUnavailableError
from local.sandbox.cell import CellFailedError
from local.sandbox.faults import Call, Fault, Faults, Kind
from local.sandbox.fleet import KeyReusedError, TooManySandboxesError, UnknownSandboxError

_RUN = "run"

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

Handler = Callable[[Request], Awaitable[Response]]


class Calls:
    """Surrounds the handlers of calls, and counts them and the runs that the gateway passes on."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._counts = Counter(dict.fromkeys([*(call.value for call in Call), _RUN], 0))

    def counts(self) -> dict[str, int]:
        """How often each call came since the start, also in vain; and requests to run code, as `run`."""
        return dict(self._counts)

    def count_run(self) -> None:
        """A run was asked for once more."""
        self._counts[_RUN] += 1

    def endpoint(self, handler: Handler, call: Call | None = None) -> Handler:
        """`handler` for those who have an API key, with its errors answered, and with the faults of `call`."""
        work = handler if call is None else self._befallen(handler, call)

        async def answer(request: Request) -> Response:
            if request.url.path != "/health" and not request.headers.get("x-api-key"):
                return error(401, "the header X-API-KEY is missing; any value will do here")
            try:
                return await work(request)
            except tuple(_STATUS) as failure:
                status, error_code = next(_STATUS[kind] for kind in type(failure).__mro__ if kind in _STATUS)
                return error(status, str(failure), error_code)

        return answer

    def _befallen(self, handler: Handler, call: Call) -> Handler:
        async def work(request: Request) -> Response:
            self._counts[call.value] += 1
            fault = self._faults.of_call(
                call,
                sandbox_id=request.path_params.get("sandbox_id"),
                header=request.headers.get("x-sandkeeper-fault"),
            )
            return await (_befall(fault, handler, request) if fault else handler(request))

        return work


def error(status: int, message: str, error_code: str | None = None) -> JSONResponse:
    """A failure in the form that the SDK reads."""
    code = {"error_code": error_code} if error_code else {}
    return JSONResponse({"code": status, "message": message, **code}, status)


async def _befall(fault: Fault, handler: Handler, request: Request) -> Response:
    """What `fault` makes of the call."""
    match fault.kind:
        case Kind.RATE_LIMITED:
            return error(429, "too many calls, on demand")
        case Kind.UNAVAILABLE:
            return error(503, "no capacity, on demand", "sandbox_capacity_unavailable")
        case Kind.FAILED:
            return error(500, "a failure, on demand")
        case Kind.SLOW:
            await asyncio.sleep(fault.delay_ms / 1000)
    try:
        return await handler(request)
    finally:
        if fault.kind is Kind.REPLY_LOST:
            request.state.disconnect()
