"""A relay in front of E2B and of AWS that adds each service's delay to each request, and notes what passed.

A delay is of a request, not of a connection: connections are kept alive on both sides where both sides do so.
Bodies are streamed both ways. `GET /bench/heard` is answered by the relay itself: the requests so far, which it
then forgets.
"""

import argparse
import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import h11

Service = Literal["control plane", "sandbox", "DynamoDB", "S3"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

HEARD = "/bench/heard"

_CHUNK_BYTES = 64 * 1024
_OF_ONE_CONNECTION = {b"connection", b"keep-alive", b"expect"}
_CREDENTIAL_SCOPE = re.compile(r"/(dynamodb|s3)/aws4_request")
_SANDBOX = re.compile(r"^(?:/v2)?/sandboxes(?:/[^/?]+(?:/(?P<verb>\w+))?)?(?:\?|$)")
_RUN = re.compile(r"^/(?:execute|runs/[^/?]+)(?:\?|$)")


class Purpose(NamedTuple):
    """Whom a request is for, and what for."""

    service: Service
    what: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A request that passed: when it came, and when its answer had been passed on, by `time.perf_counter`."""

    service: Service
    what: str
    begun: float
    ended: float


@dataclass(frozen=True, slots=True)
class Delays:
    """What is added to each request, in milliseconds. Creating and resuming have their own, in place of E2B's."""

    e2b_ms: float = 0
    create_ms: float = 0
    resume_ms: float = 0
    s3_ms: float = 0
    dynamodb_ms: float = 0

    def of(self, purpose: Purpose) -> float:
        """Returns the delay of such a request."""
        match purpose:
            case "control plane", "create":
                return self.create_ms
            case "control plane", "connect":
                return self.resume_ms
            case "control plane" | "sandbox", _:
                return self.e2b_ms
            case "DynamoDB", _:
                return self.dynamodb_ms
            case _:
                return self.s3_ms


def purpose_of(request: h11.Request) -> Purpose:
    """Returns it, as its target and headers tell."""
    headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
    method, target = request.method.decode(), request.target.decode("latin-1")
    if operation := headers.get("x-amz-target"):
        return Purpose("DynamoDB", operation.rpartition(".")[2])
    if _CREDENTIAL_SCOPE.search(headers.get("authorization", "") + target.replace("%2F", "/")):
        return Purpose("S3", {"GET": "read", "PUT": "write"}.get(method, method))
    if "e2b-sandbox-id" not in headers:
        return Purpose("control plane", _control(method, target))
    if _RUN.match(target):
        return Purpose("sandbox", "run" if method == "POST" else "follow")
    named = {"/files": "write file", "/process.Process/Start": "command"}
    path = target.partition("?")[0]
    return Purpose("sandbox", named.get(path, f"{method} {path}") if method == "POST" else f"{method} {path}")


def _control(method: str, target: str) -> str:
    found = _SANDBOX.match(target)
    if found is None:
        return f"{method} {target}"
    return found["verb"] or {"POST": "create", "DELETE": "kill"}.get(method, method)


class Relay:
    """Passes on what comes over connections of its clients, to wherever `connect` leads."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Streams]],
        delays: Delays,
        heard: list[Heard],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self._delays = delays
        self._heard = heard
        self._sleep = sleep

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection to its end. What cannot be passed on ends it, as a broken network would."""
        near, far = _End(h11.SERVER, reader, writer), None
        try:
            while isinstance(request := await near.next(), h11.Request):
                if request.target == HEARD.encode():
                    await self._tell(near)
                else:
                    far = await self._pass_on(request, near, far)
                if not near.goes_on():
                    break
        except (OSError, h11.ProtocolError):
            pass
        finally:
            for end in (near, far):
                if end is not None:
                    await end.close()

    async def _pass_on(self, request: h11.Request, near: "_End", far: "_End | None") -> "_End | None":
        """Returns the far end if it can be used again."""
        begun, purpose = time.perf_counter(), purpose_of(request)
        await self._sleep(self._delays.of(purpose) / 1000)
        if far is not None and far.is_over:
            await far.close()
            far = None
        if far is None:
            far = _End(h11.CLIENT, *await self._connect())
        try:
            await self._answer(request, near, far)
        except BaseException:
            await far.close()
            raise
        self._heard.append(Heard(*purpose, begun, time.perf_counter()))
        if far.goes_on():
            return far
        await far.close()
        return None

    async def _answer(self, request: h11.Request, near: "_End", far: "_End") -> None:
        await far.send(
            h11.Request(method=request.method, target=request.target, headers=_kept(request.headers.raw_items()))
        )
        if near.http.they_are_waiting_for_100_continue:
            await near.send(h11.InformationalResponse(status_code=100, headers=[]))
        await near.pour_into(far)
        answer = await far.next()
        while isinstance(answer, h11.InformationalResponse):
            answer = await far.next()
        if not isinstance(answer, h11.Response):
            raise ConnectionResetError
        await near.send(
            h11.Response(
                status_code=answer.status_code, reason=answer.reason, headers=_kept(answer.headers.raw_items())
            )
        )
        await far.pour_into(near)

    async def _tell(self, near: "_End") -> None:
        content = json.dumps([asdict(each) for each in self._heard]).encode()
        self._heard.clear()
        await near.drain_request()
        await near.send(h11.Response(status_code=200, headers=[("Content-Length", str(len(content)))]))
        await near.send(h11.Data(data=content))
        await near.send(h11.EndOfMessage())


class _End:
    """One end of what is relayed: a connection, and how far its HTTP has come."""

    def __init__(
        self, role: type[h11.CLIENT | h11.SERVER], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.http = h11.Connection(role)
        self._reader, self._writer = reader, writer

    @property
    def is_over(self) -> bool:
        """Whether the other side has closed the connection."""
        return self._reader.at_eof()

    async def next(self) -> object:
        """Returns what comes next."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event

    async def send(self, event: h11.Event) -> None:
        """Sends it, as fast as it is taken."""
        if data := self.http.send(event):
            self._writer.write(data)
            await self._writer.drain()

    async def pour_into(self, other: "_End") -> None:
        """Passes a body on, chunk by chunk as it comes."""
        while isinstance(event := await self.next(), h11.Data):
            await other.send(h11.Data(data=event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise ConnectionResetError
        await other.send(h11.EndOfMessage(headers=event.headers.raw_items()))

    async def drain_request(self) -> None:
        """Reads a body that nobody wants."""
        while isinstance(await self.next(), h11.Data):
            pass

    def goes_on(self) -> bool:
        """Returns whether another request may follow on this connection, and is then ready for it."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
            return False
        self.http.start_next_cycle()
        return True

    async def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


def _kept(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in _OF_ONE_CONNECTION]


def _addresses(pairs: list[str]) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Yields of each `URL=URL` where to listen, and whom to pass it on to."""
    for pair in pairs:
        here, there = (urlsplit(url) for url in pair.split("="))
        assert here.hostname and here.port and there.hostname and there.port, pair
        yield (here.hostname, here.port), (there.hostname, there.port)


async def serve(pairs: list[str], delays: Delays) -> None:
    """Relays until the process ends."""
    heard: list[Heard] = []
    for here, there in _addresses(pairs):

        async def connect(there: tuple[str, int] = there) -> Streams:
            return await asyncio.open_connection(*there)

        await asyncio.start_server(Relay(connect, delays, heard).serve, *here)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.delays", description=__doc__)
    parser.add_argument("relays", nargs="+", metavar="URL=URL", help="where to listen = whom to pass it on to")
    parser.add_argument("--delays", type=json.loads, default={}, help="JSON of `Delays`")
    asked = parser.parse_args()
    asyncio.run(serve(asked.relays, Delays(**asked.delays)))
