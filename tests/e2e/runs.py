"""A chat backend's view of runs that take longer than a call: how they are begun and followed; and a gateway."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx
import httpx_sse

from tests.e2e.conftest import Chat

CUT_S = 30.0
WHOLE = {"content-length", "transfer-encoding", "connection"}


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    event: str
    data: str

    @property
    def told(self) -> dict[str, Any]:
        """What it tells."""
        fields: dict[str, Any] = json.loads(self.data)
        return fields


def begin(chat: Chat, code: str, **fields: Any) -> dict[str, Any]:
    """Returns the answer to a program that is not waited for."""
    reply = chat.execute(code, mode="async", **fields)
    assert reply.status_code == 202, reply.text
    accepted: dict[str, Any] = reply.json()
    assert reply.headers["location"] == accepted["statusUrl"]
    return accepted


def connection(client: httpx.Client, accepted: dict[str, Any], after: str = "") -> Iterator[Event]:
    """Yields the events of one connection that follows the run from an event on."""
    headers = {"Last-Event-ID": after} if after else {}
    with httpx_sse.connect_sse(client, "GET", accepted["eventsUrl"], headers=headers) as events:
        yield from (Event(each.id, each.event, each.data) for each in events.iter_sse())


def follow(client: httpx.Client, accepted: dict[str, Any]) -> list[Event]:
    """Returns the run's events to its end; asks again where a connection ends before, as a browser does."""
    seen: list[Event] = []
    while not seen or seen[-1].event != "end":
        told = [*connection(client, accepted, seen[-1].id if seen else "")]
        assert not {event.id for event in told} & {event.id for event in seen}, "an event came twice"
        seen += told
    return seen


def printed(events: list[Event]) -> str:
    """Returns what the run wrote to standard output."""
    outputs = [event.told["results"] for event in events if event.event == "output"]
    return "".join(item["content"] for results in outputs for item in results if item["type"] == "text")


def result_of(client: httpx.Client, accepted: dict[str, Any], wait_ms: int = 20_000) -> dict[str, Any]:
    """Returns what came of the run, for whose end it waits."""
    reply = client.get(accepted["statusUrl"], params={"waitMs": wait_ms}).raise_for_status()
    assert reply.json()["state"] == "ended", reply.text
    result: dict[str, Any] = reply.json()["result"]
    return result


@dataclass
class Gateway:
    """Passes requests on as AWS' does: replies go on whole, and one that takes over 30 s is cut off."""

    target: str
    cut: list[str] = field(default_factory=list)
    url: str = ""

    def pass_on(self, request: BaseHTTPRequestHandler) -> None:
        """Answers one request."""
        until = time.monotonic() + CUT_S
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        content = b""
        with (
            httpx.Client(base_url=self.target, timeout=CUT_S) as client,
            client.stream(request.command, request.path, content=body, headers=headers) as reply,
        ):
            for chunk in reply.iter_raw():
                content += chunk
                if time.monotonic() > until:
                    self.cut.append(request.path)
                    request.send_error(503)
                    return
        request.send_response(reply.status_code)
        for name, value in reply.headers.items():
            if name.lower() not in WHOLE:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


@contextmanager
def gateway_to(target: str) -> Iterator[Gateway]:
    """A gateway in front of the API, on a port of its own."""
    gateway = Gateway(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing."""

        def do_GET(self) -> None:
            gateway.pass_on(self)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the library's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield gateway
        server.shutdown()
        serving.join()
