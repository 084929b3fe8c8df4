"""The Python client in both of its forms, in front of a service that a test makes up."""

import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx

from sandkeeper_client import AsyncSandkeeper, Retries, Sandkeeper

URL, TOKEN = "https://api.test/stage", "sk_of_this_test"
NOW = "2030-01-01T00:00:00Z"
EXECUTE = "/stage/api/jupyter/execute"
RUNS = "/stage/api/chats/c/executions"

Step = httpx.Response | type[httpx.RequestError] | Callable[[], httpx.Response]
"""What a request comes to. Answers that several tests have are made anew for each."""
Form = Literal["waits", "awaits"]
FORMS: Sequence[Form] = ("waits", "awaits")


@dataclass
class Service:
    """Answers each request with the next of its steps, and remembers what it was asked."""

    form: Form
    steps: list[Step] = field(default_factory=list)
    heard: list[httpx.Request] = field(default_factory=list)
    retries: Retries = field(default_factory=Retries)

    def will(self, *steps: Step) -> None:
        """Says what comes next."""
        self.steps += steps

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answers one request."""
        self.heard.append(request)
        assert self.steps, f"nobody expected {request.method} {request.url}"
        step = self.steps.pop(0)
        if isinstance(step, httpx.Response):
            return step
        if isinstance(step, type):
            raise step("it broke", request=request)
        return step()

    def does(self, act: Callable[[Any], Any]) -> Any:
        """Returns what comes of an act on the client: awaited where it is to be, and all of what is yielded."""
        transport = httpx.MockTransport(self.answer)
        if self.form == "waits":
            with Sandkeeper(URL, TOKEN, retries=self.retries, http=httpx.Client(transport=transport)) as service:
                result = act(service)
                return [*result] if isinstance(result, Iterator) else result
        return anyio.run(self._awaited, act, transport)

    async def _awaited(self, act: Callable[[Any], Any], transport: httpx.MockTransport) -> Any:
        http = httpx.AsyncClient(transport=transport)
        async with AsyncSandkeeper(URL, TOKEN, retries=self.retries, http=http) as service:
            result = act(service)
            if isinstance(result, AsyncIterator):
                return [each async for each in result]
            return await result if inspect.isawaitable(result) else result

    def chat_does(self, act: Callable[[Any], Any]) -> Any:
        """Returns what comes of an act on the chat `c`."""
        return self.does(lambda service: act(service.chat("c")))

    def runs(self, code: str = "1", **options: Any) -> Any:
        """Returns what comes of code in that chat."""
        return self.chat_does(lambda chat: chat.run(code, **options))

    @property
    def asked(self) -> list[str]:
        """What was asked for, in order."""
        return [f"{request.method} {request.url.path}" for request in self.heard]

    def bodies(self) -> list[dict[str, Any]]:
        """The JSON that was sent."""
        return [json.loads(request.content) for request in self.heard if request.content]


def ok(told: Any, status: int = 200) -> httpx.Response:
    """Returns an answer in JSON."""
    return httpx.Response(status, json=told)


def problem(status: int, slug: str, *, retry_after: str | None = None, **more: Any) -> httpx.Response:
    """Returns an answer that says no."""
    told = {"type": f"urn:sandkeeper:problem:{slug}", "title": slug, "status": status, "detail": f"it is {slug}"}
    headers = {"Content-Type": "application/problem+json"}
    headers |= {} if retry_after is None else {"Retry-After": retry_after}
    body = {**told, "instance": "/", "requestId": "req-1", **more}
    return httpx.Response(status, headers=headers, content=json.dumps(body))


def text(content: str) -> dict[str, Any]:
    """Returns what a program printed."""
    return {"type": "text", "content": content, "mimeType": "text/plain"}


def run_told(*results: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Returns what is told of a run."""
    return {
        "success": True,
        "results": [*results],
        "error": None,
        "executionTime": 9,
        "sandboxId": "sbx",
        "uploadedFiles": [],
        "expiresIn": 1_800_000,
        "executionId": "run",
        "errorDetail": None,
        "session": {"status": "reused", "generation": 1, "stateReset": False, "reason": None},
        "artifacts": [],
        "moreFiles": 0,
        "timings": {"claimMs": 1, "connectMs": 0, "filesMs": 0, "runMs": 7, "releaseMs": 1},
        **more,
    }


def accepted() -> httpx.Response:
    """Returns the answer to a run that goes on."""
    urls = {"statusUrl": "/api/chats/c/executions/run", "eventsUrl": "/api/chats/c/executions/run/events"}
    return ok({"executionId": "run", "state": "running", **urls}, 202)


def progress(result: Mapping[str, Any] | None = None) -> httpx.Response:
    """Returns what is told of a run that goes on, or has come to this."""
    state = "running" if result is None else "ended"
    times = {"createdAt": NOW, "startedAt": NOW, "endedAt": None if result is None else NOW, "limitMs": 60_000}
    return ok({"executionId": "run", "chatId": "c", "state": state, **times, "result": result})


def event(number: int, name: str, **told: Any) -> bytes:
    """Returns an event as it goes over the wire."""
    data = json.dumps({"at": NOW, **told}, ensure_ascii=False)
    return f"id: {number}\nevent: {name}\ndata: {data}\n\n".encode()


def printed(number: int, what: str) -> bytes:
    """Returns the event of something that was printed."""
    return event(number, "output", results=[text(what)])


def ended(number: int) -> bytes:
    """Returns the last event."""
    return event(number, "end", success=True, error=None, errorDetail=None, artifacts=[])


class Content(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Content that comes in chunks, and breaks off behind the last one if it is to."""

    def __init__(self, *chunks: bytes, breaks: bool = False) -> None:
        self._chunks, self._breaks = chunks, breaks
        self.is_released = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks
        if self._breaks:
            raise httpx.RemoteProtocolError("cut")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.is_released = True

    async def aclose(self) -> None:
        self.close()


def stream(*chunks: bytes, breaks: bool = False) -> httpx.Response:
    """Returns an answer of events."""
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, headers=headers, stream=Content(b"retry: 200\n", *chunks, breaks=breaks))
