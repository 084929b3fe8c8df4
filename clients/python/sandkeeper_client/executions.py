"""A run that has begun, for programs that `await`."""

import time
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Literal

import httpx
from httpx_sse import ServerSentEvent

from sandkeeper_client.api import Api, Call, checked_id, unanswered, unexpected
from sandkeeper_client.errors import TimedOut, UnexpectedReply
from sandkeeper_client.runs import EVENTS, Ended, Event, Progress, Run

POLL_MS = 20_000
"""How long the service is asked to wait for a run's end, at most."""
AGAIN_S = 0.2

View = Literal["outputs", "model"]


class AsyncExecution:
    """A run that has begun, and goes on without anybody."""

    def __init__(self, api: Api, chat_id: str, execution_id: str, include: Collection[View] = ()) -> None:
        self._api = api
        self.id = checked_id("execution id", execution_id)
        self._path = f"/api/chats/{chat_id}/executions/{self.id}"
        self._include = sorted(include)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    async def look(self, *, wait: float = 0) -> Progress:
        """Returns how far the run is; waits for its end so many seconds, at most 20."""
        wait_ms = min(POLL_MS, round(wait * 1000))
        return Progress.of(await self._api.get(self._path, include=self._include, waitMs=wait_ms))

    async def wait(self, timeout: float | None = None) -> Run:
        """Returns what came of the run, once it has ended. Raises `TimedOut` after so many seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = POLL_MS / 1000 if until is None else max(0.0, until - time.monotonic())
            run = (await self.look(wait=left)).result
            if run is not None:
                return run
            if until is not None and time.monotonic() >= until:
                raise TimedOut(f"run {self.id} has not ended within {timeout} s; it goes on")
            await self._api.wire.sleep(AGAIN_S)

    async def cancel(self) -> Run:
        """Stops this run, and no other; returns it with what it put out. Variables stay."""
        run = Progress.of(await self._api.json(Call(method="POST", path=f"{self._path}/cancel"))).result
        return run if run is not None else await self.wait()

    async def events(self, *, after: str = "") -> AsyncGenerator[Event, None]:
        """Yields what happens in the run as it does, from its beginning or behind the event of this id, to its end.

        Connections that end before are followed by others: no event is lost, and none comes twice.
        """
        attempts = self._api.retries.begin()
        while True:
            try:
                async with aclosing(self._connection(after)) as connection:
                    async for event in connection:
                        after, attempts = event.id, self._api.retries.begin()
                        yield event
                        if isinstance(event, Ended):
                            return
            except _NoMore:
                return
            except httpx.RequestError as error:
                pause = attempts.pause()
                if pause is None:
                    raise unanswered(error, self._path, attempts.failed) from error
                await self._api.wire.sleep(pause)
            else:
                await self._api.wire.sleep(AGAIN_S)

    async def _connection(self, after: str) -> AsyncGenerator[Event, None]:
        """Yields the events of one connection. Raises `_NoMore` if there is none and none will come."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        async with self._api.open(Call(method="GET", path=f"{self._path}/events", headers=headers)) as reply:
            if reply.status_code == 204:
                raise _NoMore
            if not reply.headers.get("content-type", "").startswith("text/event-stream"):
                raise unexpected(reply)
            async with aclosing(self._api.wire.events(reply)) as told:
                async for each in told:
                    if each.data:
                        yield _event(each)


class _NoMore(Exception):
    """The run has ended, and all of its events are known."""


def _event(told: ServerSentEvent) -> Event:
    try:
        data = {**told.json(), "id": told.id, "name": told.event}
    except (ValueError, TypeError):
        raise UnexpectedReply(f"event {told.id!r} of a run is not as documented") from None
    return EVENTS.get(told.event, Event).of(data)
