"""Which sandbox and port a request is for, and connections to there.

A request is for a sandbox if its headers E2b-Sandbox-Id and -Port say so, or a host `<port>-<id>.…`, or the
signature of a file URL that one sandbox's token makes valid; all others are for the control plane. What
cannot be reached is answered as E2B's proxy does: the SDK tells by its words whether a sandbox is gone.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import socket
from dataclasses import dataclass
from typing import Any

from local.sandbox.calls import Calls
from local.sandbox.faults import Fault, Faults, Kind
from local.sandbox.fleet import Fleet, UnknownSandboxError
from local.sandbox.head import BadRequestError, Head
from local.sandbox.sandbox import Sandbox, State

ENVD_PORT = 49983
INTERPRETER_PORT = 49999
_HOST = re.compile(r"(\d{1,5})-([a-z0-9]+)\.")
_OWN_PORTS = {ENVD_PORT, INTERPRETER_PORT}
_RUNNERS_RUN = re.compile(r"/runs/[^/]+")


@dataclass(frozen=True, slots=True)
class Destination:
    """A port of a sandbox."""

    sandbox_id: str
    port: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to a sandbox's port, on which nothing has been said, and what shall befall the request."""

    sandbox: Sandbox
    connection: socket.socket
    fault: Fault | None


class Refusal(Exception):
    """Raised with what the client is told in the sandbox's place."""

    def __init__(self, status: int, sandbox_id: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"sandboxId": sandbox_id, "message": message, **more, "code": status}


class Unreachable(Exception):
    """Raised where the connection shall end without an answer."""


class Gateway:
    """Finds the sandbox that a request is for, and opens connections to it."""

    def __init__(self, fleet: Fleet, faults: Faults, calls: Calls) -> None:
        self._fleet = fleet
        self._faults = faults
        self._calls = calls

    def destination(self, head: Head) -> Destination | None:
        """Where the request shall go, or None for the control plane."""
        if sandbox_id := head.get("e2b-sandbox-id"):
            return Destination(sandbox_id, _port(head.get("e2b-sandbox-port") or str(ENVD_PORT)))
        if host := _HOST.match(head.get("host") or ""):
            return Destination(host[2], _port(host[1]))
        if head.path == "/files" and (signer := self._signer(head)):
            return Destination(signer.id, ENVD_PORT)
        return None

    async def open(self, destination: Destination, head: Head) -> Opened:
        """A connection to where the request shall go."""
        is_run = _is_run(destination, head)
        if is_run:
            self._calls.count_run()
        sandbox = await self._running(destination)
        if self._faults.of_sandbox(Kind.UNREACHABLE, sandbox_id=sandbox.id):
            raise Unreachable
        if sandbox.traffic_token and destination.port != ENVD_PORT:
            _check_traffic_token(sandbox, head)
        fault = self._run_fault(sandbox, head) if is_run else None
        try:
            return Opened(sandbox, await _dial(sandbox, destination.port), fault)
        except OSError:
            if sandbox.state is not State.RUNNING:
                raise _not_found(sandbox.id) from None
            message = "The sandbox is running but port is not open"
            raise Refusal(502, sandbox.id, message, port=destination.port) from None

    def _run_fault(self, sandbox: Sandbox, head: Head) -> Fault | None:
        header = head.get("x-sandkeeper-fault")
        try:
            return self._faults.of_sandbox(Kind.RUN_DROPPED, sandbox_id=sandbox.id, header=header)
        except ValueError as failure:
            raise Refusal(400, sandbox.id, str(failure)) from failure

    async def _running(self, destination: Destination) -> Sandbox:
        try:
            sandbox = self._fleet.get(destination.sandbox_id)
        except UnknownSandboxError:
            raise _not_found(destination.sandbox_id) from None
        if sandbox.state is State.PAUSED and sandbox.spec.resume_on_traffic:
            await sandbox.resume(max(sandbox.spec.timeout_s, 300))
        if sandbox.state is not State.RUNNING:
            raise _not_found(sandbox.id)
        return sandbox

    def _signer(self, head: Head) -> Sandbox | None:
        """The sandbox whose token makes the file URL's signature valid; the SDK's URLs do not name it."""
        query = head.query
        operation = "read" if head.method in {"GET", "HEAD"} else "write"
        expiration = query.get("signature_expiration")
        for sandbox in self._fleet:
            parts = [query.get("path", ""), operation, query.get("username", ""), sandbox.access_token]
            text = ":".join([*parts, expiration] if expiration else parts)
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            if _same(query.get("signature", ""), f"v1_{digest}"):
                return sandbox
        return None


def _is_run(destination: Destination, head: Head) -> bool:
    """Whether code is to be run: by the interpreter, or by a runner that somebody has put into the sandbox.

    What that one asks of the interpreter stays inside, so that no run counts twice.
    """
    if head.method != "POST":
        return False
    if destination.port in _OWN_PORTS:
        return head.path == "/execute"
    return _RUNNERS_RUN.fullmatch(head.path) is not None


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise BadRequestError(f"{text!r} is not a port")
    return int(text)


def _not_found(sandbox_id: str) -> Refusal:
    return Refusal(502, sandbox_id, "The sandbox was not found")


def _check_traffic_token(sandbox: Sandbox, head: Head) -> None:
    given = head.get("e2b-traffic-access-token")
    if given is None:
        raise Refusal(403, sandbox.id, "the header E2B-Traffic-Access-Token is missing; create returned its value")
    if not _same(given, sandbox.traffic_token or ""):
        raise Refusal(403, sandbox.id, "the header E2B-Traffic-Access-Token is not this sandbox's")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())  # strings would have to be ASCII


async def _dial(sandbox: Sandbox, port: int) -> socket.socket:
    """A connection to the port: the agent's own at its socket, any other from its relay."""
    if port in _OWN_PORTS:
        return await _connected(sandbox.cell.agent_socket)
    with await _connected(sandbox.cell.relay_socket) as relay:
        await asyncio.get_running_loop().sock_sendall(relay, f"{port}\n".encode())
        return await _handed_over(relay)


async def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


async def _handed_over(relay: socket.socket) -> socket.socket:
    """The connection that the relay answers with."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(relay, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(relay)
    answer, descriptors, _, _ = socket.recv_fds(relay, len(b"refused\n"), 1)
    if not descriptors:
        raise ConnectionRefusedError(answer)
    connection = socket.socket(fileno=descriptors[0])
    connection.setblocking(False)
    return connection
