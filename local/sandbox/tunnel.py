"""Clients' connections, passed on byte by byte to the sandboxes that they are for.

As requests for several sandboxes and for the control plane may come on one connection of a client, each gets
a connection of its own: `Connection: close` is put into its head, and from then on nothing is parsed. So data
streams both ways as it comes, WebSockets and whatever else upgrades work, and a client that goes away is
noticed by the sandbox at once.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from local.sandbox.gateway import Destination, Gateway, Refusal, Unreachable
from local.sandbox.head import BadRequestError, Head

_LINGER_S = 2.0
_REST_BYTES = 64 * 1024


class FrontDoor(asyncio.Protocol):
    """A client's connection until its request's head is known; then uvicorn or a sandbox has it.

    uvicorn makes one for each connection, in the place of its own protocol.
    """

    def __init__(
        self,
        gateway: Gateway,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._gateway = gateway
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._received = b""
        self._transport: asyncio.Transport
        self._passing: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            head = Head.parse(self._received)
            if head is None:
                return
            destination = self._gateway.destination(head)
        except BadRequestError as error:
            self._become_client().answer(400, {"code": 400, "message": str(error)})
            return
        if destination is None:
            self._hand_over(head)
        else:
            self._transport.pause_reading()
            self._passing = asyncio.create_task(self._pass_on(head, destination))

    def shutdown(self) -> None:
        """The connection ends, as the server stops."""
        self._transport.close()

    @property
    def _connections(self) -> set[Any]:
        return cast(set[Any], self._server_state.connections)

    def _hand_over(self, head: Head) -> None:
        """The control plane has the request; its handlers may disconnect the client (`state.disconnect`)."""
        state = {**self._app_state, "disconnect": self._transport.abort}
        protocol = HttpToolsProtocol(config=self._config, server_state=self._server_state, app_state=state)
        self._connections.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(head.closing())

    async def _pass_on(self, head: Head, destination: Destination) -> None:
        """The sandbox has the request, or the client knows why not."""
        client = self._become_client()
        try:
            opened = await self._gateway.open(destination, head)
        except Refusal as refusal:
            client.answer(refusal.status, refusal.body)
            return
        except Unreachable:
            client.close()
            return
        connections = opened.sandbox.connections
        far_end = SandboxEnd(client, opened.fault.after_bytes if opened.fault else None)
        loop = asyncio.get_running_loop()
        is_own = opened.connection.family is socket.AF_UNIX
        connect = loop.create_unix_connection if is_own else loop.create_connection
        await connect(lambda: far_end, sock=opened.connection)
        connections.add(client)
        client.join(far_end, on_end=lambda: connections.discard(client))
        far_end.transport.write(head.closing())

    def _become_client(self) -> "ClientEnd":
        self._connections.discard(self)
        client = ClientEnd(self._transport, self._connections)
        self._transport.set_protocol(client)
        return client


class ClientEnd(asyncio.Protocol):
    """The client's side of a tunnel."""

    def __init__(self, transport: asyncio.Transport, connections: set[Any]) -> None:
        self.transport = transport
        self._connections = connections
        self._far_end: SandboxEnd | None = None
        self._on_end: Callable[[], None] = lambda: None
        connections.add(self)

    def join(self, far_end: "SandboxEnd", on_end: Callable[[], None]) -> None:
        """Data flows both ways from now on; `on_end` is called when the client is gone."""
        self._far_end, self._on_end = far_end, on_end
        self.transport.resume_reading()

    def answer(self, status: int, body: dict[str, Any]) -> None:
        """The client has this as the whole answer."""
        content = json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.resume_reading()
        self.finish()

    def finish(self) -> None:
        """The client has the end of the answer, also one that is still sending: what it sends is dropped.

        To close at once, with unread data, would reset the connection and lose the answer.
        """
        self._far_end = None
        if self.transport.is_closing():
            return
        self.transport.write_eof()
        self._linger()

    def close(self) -> None:
        """The connection ends now."""
        self.transport.abort()

    shutdown = close

    def data_received(self, data: bytes) -> None:
        if self._far_end:
            self._far_end.transport.write(data)

    def pause_writing(self) -> None:
        if self._far_end:
            self._far_end.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._far_end:
            self._far_end.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)
        if self._far_end:
            self._far_end.transport.abort()
        self._on_end()

    def _linger(self) -> None:
        loop = asyncio.get_running_loop()
        flushed = self.transport.get_write_buffer_size() == 0
        loop.call_later(_LINGER_S, self.transport.abort if flushed else self._linger)


class SandboxEnd(asyncio.Protocol):
    """The sandbox's side of a tunnel; it may be made to break after `budget` bytes."""

    def __init__(self, client: ClientEnd, budget: int | None) -> None:
        self.transport: asyncio.Transport
        self._client = client
        self._budget = budget

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._budget is None:
            self._client.transport.write(data)
            return
        self._client.transport.write(data[: self._budget])
        self._budget -= len(data)
        if self._budget <= 0:
            self._client.transport.close()

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._read_the_rest()
        self._client.finish()

    def _read_the_rest(self) -> None:
        """An answer that came before all of its request had been sent is there, though sending failed."""
        connection = self.transport.get_extra_info("socket").fileno()
        with suppress(OSError):
            while data := os.read(connection, _REST_BYTES):
                self.data_received(data)
