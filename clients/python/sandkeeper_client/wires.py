"""The two ways over the wire, and how blocking callers use code that is written once, with `await`.

Everything that this client does is written as coroutines over a `Wire`. With an `AsyncWire` they are what they look
like. With a `BlockingWire` nothing in them ever waits for an event loop: each runs to its end at its first step,
wherever it is called, also within a running loop as in Jupyter.
"""

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent

T = TypeVar("T")


class Wire(Protocol):
    """What calls need of an HTTP library."""

    @property
    def build(self) -> Callable[..., httpx.Request]:
        """Makes a request, with the library's own headers and time limits."""

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Returns the reply to just this request, with its body yet to come: no redirect, no other credentials."""

    async def read(self, reply: httpx.Response) -> bytes:
        """Returns the whole body."""

    def chunks(self, reply: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yields the body as it comes."""

    def events(self, reply: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        """Yields the body's events as they come."""

    async def release(self, reply: httpx.Response) -> None:
        """Has done with the reply."""

    async def sleep(self, seconds: float) -> None:
        """Waits."""

    async def close(self) -> None:
        """Ends all connections."""


class AsyncWire:
    """Waits as asyncio and trio do."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.build = http.build_request

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request, stream=True, auth=None, follow_redirects=False)

    async def read(self, reply: httpx.Response) -> bytes:
        return await reply.aread()

    async def chunks(self, reply: httpx.Response) -> AsyncGenerator[bytes, None]:
        async for chunk in reply.aiter_bytes():
            yield chunk

    def events(self, reply: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        return EventSource(reply).aiter_sse()

    async def release(self, reply: httpx.Response) -> None:
        await reply.aclose()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def close(self) -> None:
        await self._http.aclose()


class BlockingWire:
    """Waits by blocking its thread: none of its coroutines ever suspends."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.build = http.build_request

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self._http.send(request, stream=True, auth=None, follow_redirects=False)

    async def read(self, reply: httpx.Response) -> bytes:
        return reply.read()

    async def chunks(self, reply: httpx.Response) -> AsyncGenerator[bytes, None]:
        for chunk in reply.iter_bytes():
            yield chunk

    async def events(self, reply: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        for event in EventSource(reply).iter_sse():
            yield event

    async def release(self, reply: httpx.Response) -> None:
        reply.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def close(self) -> None:
        self._http.close()


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """Returns what a coroutine over a `BlockingWire` comes to."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine that blocks has waited for an event loop; give no `async` function to it")


def each(items: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yields what an asynchronous generator over a `BlockingWire` yields."""
    try:
        while True:
            try:
                yield done(items.__anext__())
            except StopAsyncIteration:
                return
    finally:
        done(items.aclose())
